"""ClothoAQA: questions about Clotho's sounds (Lipping et al., 2022; zenodo 6473207).

    clotho_aqa_train.csv
    audio_files/river_mouth3.wav

Three people answered each question. The answer is what two of them say; a question to which all
three answer differently is dropped.
"""

import collections
import itertools
import pathlib
from collections.abc import Iterator

from data_pipelines.sources.tables import rows

TASKS = ("audio_question_answering",)
LICENSE = "LicenseRef-ClothoAQA"
LAYOUT = "clotho_aqa_train.csv"
_PARTS = {"train": "train", "validation": "val"}


def clips(root: pathlib.Path, split: str) -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
    """Questions, by clip and text."""
    columns = ("file_name", "QuestionText", "answer")
    listed = rows(root / f"clotho_aqa_{_PARTS[split]}.csv", columns)
    answered = [tuple(row[name].strip() for name in columns) for row in listed]
    for (name, question), three in itertools.groupby(sorted(answered), key=lambda row: row[:2]):
        answers = collections.Counter(answer.lower() for *_, answer in three)
        ((answer, times),) = answers.most_common(1)
        if times > 1:
            labels = {"audio_question_answering": {"question": question, "text": answer}}
            yield root / "audio_files" / name, labels
