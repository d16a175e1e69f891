"""A corpus of preference pairs as a benchmark: what is asked, and the scores of its answers."""

import pytest
from conftest import tone_record

from data_pipelines.examples import Preprocessor
from data_pipelines.records import Record
from data_pipelines.shards import write_split
from qwen_audio_jax.evaluation.answer_files import Answered
from qwen_audio_jax.evaluation.benchmarks import corpus
from qwen_audio_jax.evaluation.options import Options
from qwen_audio_jax.evaluation.plan import Asked, Plan, Planned
from qwen_audio_jax.evaluation.scoring import score_rows, scored_groups
from qwen_audio_jax.rendering import texts_of
from qwen_audio_jax.text.tokenizer import train_sentencepiece

OPTIONS = Options(
    limit=0,
    control_limit=0,
    slots=1,
    context=64,
    max_new_tokens=0,
    protocols=(),
    examples=0,
    draws=10,
    confidence=0.95,
    seed=0,
)
CLIP = tone_record(0).audio[0]
ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "Is it a dog?"}]},
]
PAIRS = {
    "absent": {"chosen": "No.", "rejected": "Yes.", "kind": "absent_sound", "absent": ["dog"]},
    "present": {"chosen": "Yes.", "rejected": "No.", "kind": "present_sound", "present": ["dog"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    records = [
        Record(name, "preference", (CLIP,), {"messages": ASKED, **pair})
        for name, pair in PAIRS.items()
    ]
    write_split(folder, "validation", [(record, (4000,)) for record in records])
    return folder


def test_what_is_asked_ends_with_the_users_words(folder):
    items, left_out = corpus.read(folder)
    assert [(item.id, item.task) for item in items] == [(name, "preference") for name in PAIRS]
    assert left_out == []
    assert items[0].clips() == (CLIP,)
    texts = texts_of("preference", items[0].annotation)
    tokenizer = train_sentencepiece(texts, [], folder / "tokenizer", pieces=40)
    preprocessor = Preprocessor(tokenizer, "qwen2_audio", "tags", 16, "floor")
    spans, reference = preprocessor.prompt("preference", items[0].annotation)
    assert reference == "No."
    assert "".join(span.tag or span.text for span in spans) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nAudio 1: \nIs it a dog?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_answers_are_scored_by_kind_and_by_what_they_say_is_heard(folder):
    items, _ = corpus.read(folder)
    planned = [Planned("pairs", one.id, one.task, one.annotation, key=one.id) for one in items]
    plan = Plan({}, {}, [Asked("pairs", "corpus", "", "", 2, 0, ())], planned)
    answered = {name: Answered(name, "Yes, a dog.", "stop") for name in PAIRS}
    (group,) = scored_groups(plan, answered, OPTIONS)
    rows = {row["metric"]: row for row in score_rows(group, OPTIONS)}
    assert {name: (row["value"], row["n"]) for name, row in rows.items() if "f1" not in name} == {
        "accuracy": (0.0, 2),
        "accuracy/absent_sound": (0.0, 1),
        "accuracy/present_sound": (0.0, 1),
        "hallucinations": (1.0, 1),
        "missed_sounds": (0.0, 1),
        "undecided": (0.0, 2),
        "undecided/absent_sound": (0.0, 1),
        "undecided/present_sound": (0.0, 1),
    }
    assert rows["accuracy"]["high"] == 0.0
