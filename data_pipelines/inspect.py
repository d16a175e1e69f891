"""Look at a corpus and listen to it, before training on it.

    python -m data_pipelines.inspect --data=data/synthetic
    python -m data_pipelines.inspect --data=data/synthetic --plan

The first writes one self-contained page, DATA/inspect.html: records and hours by task, language and
source, how long clips and texts are, and examples of each task with player, spectrogram and the
exact text in both conditionings, the part that bears the loss highlighted. A conversation is shown
turn by turn, as each family reads it, and a preference pair with both of its answers side by side.

With `--plan` it packs the corpus into candidate row shapes instead, prints what share of tokens and
frames would be useful, and recommends a `--config.data.shapes`. How many tokens a record has
depends on the vocabulary: for a run that starts from another one or from an import, give that as
`--init_from`. A preference pair has both of its answers, as branches behind one prompt, which is
how `configs/dpo.py` lays it out. Where attention is dense within a row, long rows cost more of it,
and more memory: then take the shortest that is good enough.
"""

import argparse
import ast
import pathlib
import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipelines.corpus_statistics import COUNTED, corpus_statistics
from data_pipelines.examples import Preprocessor
from data_pipelines.packing import RowShape
from data_pipelines.pairs import LAYOUTS
from data_pipelines.records import SPLITS, Corpus, CorpusError, Record, told_of
from data_pipelines.row_shapes import Efficiency, candidates, packing_efficiency, recommend
from data_pipelines.selection import Selection
from qwen_audio_jax.audio.silence import CLIP, KNOWN, silence_frames
from qwen_audio_jax.config_fields import ConfigError, checked
from qwen_audio_jax.models.parts import Parts, read_parts
from qwen_audio_jax.models.presets import FAMILIES, FAMILY_FIELDS, MEL_BINS
from qwen_audio_jax.monitoring.html_page import SMOOTH, Chart, Clip, chart, clip_of, write_page
from qwen_audio_jax.rendering import render, wording_of
from qwen_audio_jax.rendering.chat import LEARN, Form, render_pair
from qwen_audio_jax.rendering.prompts import (
    PROMPT_LANGUAGES,
    Wordings,
    check_wordings,
    templates_of,
)
from qwen_audio_jax.rendering.spans import Span
from qwen_audio_jax.tasks import CONDITIONINGS, CONVERSATIONS, PREFERENCE
from qwen_audio_jax.text.control_tokens import IM_START
from qwen_audio_jax.text.tokenizer import load_tokenizer

_MOST_ROWS = 40  # of a table of the page: all tasks, and as many languages or sources
_END = Span(tag="<|endoftext|>", loss=True)  # what follows every answer


def write_inspection(
    path: pathlib.Path, corpus: Corpus, split: str, preprocessor: Preprocessor, examples: int
) -> None:
    """Writes the page of a split.

    Args:
        path: of the HTML file.
        corpus: a built corpus.
        split: one of its splits.
        preprocessor: how its records become examples.
        examples: how many records of each task to show; drawn once and for all by number.
    """
    index = corpus.index(split)
    counted = corpus_statistics(index)
    lengths = preprocessor.lengths([index[i] for i in counted.sample()])
    shown = [
        number
        for _, numbers in sorted(counted.by_task.items())
        for number in random.Random(0).sample(numbers, min(examples, len(numbers)))
    ]
    seconds = counted.seconds
    known = {
        "records": len(index),
        "hours": float(seconds.sum(dtype=np.float64) / 3600),
        "tasks": len(counted.by_task),
        "clip + text, mean": f"{seconds.mean():.1f} s, {lengths[:, 0].mean():.0f} tokens",
        "padding if each record were a row": _alone(lengths),
    }
    write_page(
        path,
        "data_pipelines",
        "inspect.html",
        title=f"{corpus.path.name}, {split}",
        known=known,
        counted=[_counts(what, counted.records[what], counted.hours[what]) for what in COUNTED],
        charts=[
            _histogram(seconds, "seconds per record", "s"),
            _histogram(lengths[:, 0], "tokens per record", "tokens"),
        ],
        # Made one by one as the page is written: the clips of all of them may be many.
        records=(
            _shown(
                corpus.record(split, number),
                preprocessor.lengths([index[number]])[0],
                preprocessor,
            )
            for number in tqdm(shown, desc="examples", unit="record", disable=None, leave=False)
        ),
    )


def _alone(lengths: np.ndarray) -> str:
    """What is lost without packing: every record padded to the longest."""
    tokens, frames = 1 - lengths.mean(axis=0) / np.maximum(lengths.max(axis=0), 1)
    return f"{tokens:.0%} of tokens, {frames:.0%} of frames"


def _counts(what: str, records: Counter[str], hours: Counter[str]) -> dict[str, Any]:
    """A table: a row for each of the commonest values, and how many values are left out."""
    rows = [
        {
            "name": name,
            "records": number,
            "hours": _hours(hours[name]),
            "share": f"{number / records.total():.1%}",
        }
        for name, number in records.most_common(_MOST_ROWS)
    ]
    return {"what": what, "rows": rows, "rest": len(records) - len(rows)}


def _hours(hours: float) -> str:
    """With two digits after the point, and of a small corpus as many as say something."""
    return f"{hours:,.2f}" if hours >= 1 else f"{hours:.2g}"


def _histogram(values: np.ndarray, label: str, unit: str) -> Chart:
    def draw(axes: Axes) -> None:
        axes.hist(values, bins=40, color=SMOOTH)
        axes.set_xlabel(unit)

    half, most = np.median(values), values.max()
    said = (
        f"{label}: from {values.min():,.4g} to {most:,.4g} {unit}, half of them below {half:,.4g}"
    )
    return chart(draw, label, said, wide=True)


def _shown(record: Record, length: np.ndarray, preprocessor: Preprocessor) -> dict[str, Any]:
    """What a card shows; its texts are spans, what the model reads and then what it writes."""
    clips = [
        clip_of(clip, f"{record.task} {record.id}, clip {number}")
        for number, clip in enumerate(record.audio, start=1)
    ]
    shown = {"task": record.task, "id": record.id, "tokens": int(length[0])}
    if record.task in CONVERSATIONS:
        turns, answers = _turns(record, clips, preprocessor)
        return shown | {"clips": [], "texts": {}, "turns": turns, "answers": answers}
    texts = {}
    for conditioning in ("tags", "prompts"):
        wording = wording_of(record.id)
        prompt, label = render(
            record.task,
            record.annotation,
            conditioning,
            wording=wording,
            templates=preprocessor.templates,
        )
        texts[conditioning] = [*prompt, *label, _END]
    return shown | {"clips": clips, "texts": texts, "turns": []}


def _turns(
    record: Record, clips: Sequence[Clip], preprocessor: Preprocessor
) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[Span]]]]:
    """The messages of a conversation: whose each is, its clips, and its spans in both families.

    And of a preference pair the two answers to them, by family and then by field.
    """
    written, answers = [], {}
    for family in FAMILIES:
        form = Form(family, preprocessor.learn, preprocessor.learn_newline)
        if record.task == PREFERENCE:
            both = {field: record.annotation[field] for field in ("chosen", "rejected")}
            spans, *two = render_pair(record.annotation["messages"], *both.values(), form)
            answers[family] = dict(zip(both, two, strict=True))
        else:
            prompt, answer = render(record.task, record.annotation, "tags", form=form)
            spans = [*prompt, *answer]
        messages: list[list[Span]] = []
        for span in spans:
            if span.tag == IM_START:
                messages.append([])
            messages[-1].append(span)
        written.append(messages)
    turns = [
        {
            "role": spans[0][1].text.partition("\n")[0],
            "clips": [clips[span.clip] for span in spans[0] if span.clip >= 0],
            "texts": dict(zip(FAMILIES, spans, strict=True)),
        }
        for spans in zip(*written, strict=True)
    ]
    return turns, answers


def plan(lengths: np.ndarray, batch_tokens: int) -> tuple[list[Efficiency], Efficiency]:
    """Tries row shapes on a corpus; returns (all that were tried, the recommended one).

    Args:
        lengths: int [n, 2], tokens and packed frames of each record.
        batch_tokens: about how many tokens a batch is to have.
    """
    tried = [
        packing_efficiency(lengths, shapes)
        for shapes in tqdm(
            list(candidates(lengths, batch_tokens)), desc="packing", disable=None, leave=False
        )
    ]
    return tried, recommend(tried)


def _show(tried: Sequence[Efficiency], best: Efficiency) -> None:
    table = Table("row shapes: rows x tokens x frames", title="share of a batch that is useful")
    for what in ("tokens", "frames"):
        table.add_column(what, justify="right")
    table.add_column("")
    for one in sorted(tried, key=lambda one: one.least):
        shapes = "  ".join(f"{s.rows}x{s.tokens}x{s.frames}" for s in one.shapes)
        mark = "recommended" if one is best else ""
        table.add_row(shapes, f"{one.tokens:.1%}", f"{one.frames:.1%}", mark)
    Console().print(table)
    print(f"--config.data.shapes='{_flag(best.shapes)}'")


def _flag(shapes: Sequence[RowShape]) -> str:
    listed = ",".join(f"({s.rows},{s.tokens},{s.frames})" for s in shapes)
    return f"({listed},)"


def _names(typed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in typed.split(",") if name.strip())


def _prompts(typed: str) -> Wordings:
    try:
        value = ast.literal_eval(typed)
    except (SyntaxError, ValueError):
        value = typed
    try:
        wordings = checked(Wordings, value, "prompts")
        check_wordings(wordings, "prompts")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return wordings


def _vocabulary(given: argparse.Namespace, start: Parts, corpus: Corpus) -> pathlib.Path:
    """The folder of the vocabulary that a run would train in."""
    if given.tokenizer:
        inner = given.tokenizer / "tokenizer"
        return inner if inner.is_dir() else given.tokenizer
    if start.decoder and (given.init_from / "tokenizer").is_dir():
        return given.init_from / "tokenizer"
    return corpus.path / "tokenizer"


def _told_vocabulary(given: argparse.Namespace, folder: pathlib.Path, size: int) -> str:
    """What lengths were counted in, and for which runs that is right."""
    counted = (
        f"counted in the vocabulary of {folder} ({size:,} tokens), conditioned by "
        f"{given.conditioning}"
    )
    if given.tokenizer or given.init_from in folder.parents:
        return counted
    here = "that of a run whose mixture begins with this corpus"
    if given.init_from:
        return f"{counted}: {here}, since {given.init_from} has no decoder"
    return f"{counted}: {here}; for one with --config.init_from=DIR, give --init_from=DIR"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, type=pathlib.Path, help="a built corpus's folder")
    parser.add_argument("--split", choices=SPLITS, default="train", help="default: train")
    parser.add_argument(
        "--out", type=pathlib.Path, help="page to write (default: DATA/inspect.html)"
    )
    parser.add_argument("--examples", type=int, default=2, help="of each task (default: 2)")
    parser.add_argument("--plan", action="store_true", help="try row shapes instead")
    parser.add_argument(
        "--batch_tokens", type=int, default=4096, help="of a batch, about (default: 4096)"
    )
    group = parser.add_argument_group("what lengths are counted for, and texts shown")
    group.add_argument(
        "--family", choices=FAMILIES, help="of the model (default: qwen2_audio, or the start's)"
    )
    group.add_argument(
        "--window",
        default=CLIP,
        help=f"silence that the encoder sees behind clips: {', '.join(KNOWN)}; default: {CLIP}",
    )
    group.add_argument("--conditioning", choices=CONDITIONINGS, default="tags")
    group.add_argument(
        "--init_from", type=pathlib.Path, help="run or import folder that training starts from"
    )
    group.add_argument(
        "--tokenizer",
        type=pathlib.Path,
        help="folder of the vocabulary, or one with it (default: the start's, or DATA/tokenizer)",
    )
    group.add_argument(
        "--prompts", type=_prompts, default={}, help="as config.data.prompts, with --conditioning"
    )
    group.add_argument("--prompt_language", choices=("all", *PROMPT_LANGUAGES), default="all")
    group.add_argument(
        "--learn", choices=LEARN, default=LEARN[0], help="of conversations, as config.data.learn"
    )
    group.add_argument(
        "--learn_newline", action="store_true", help="likewise, as config.data.learn_newline"
    )
    group = parser.add_argument_group("which records are counted; names are parted by commas")
    group.add_argument("--tasks", type=_names, default=(), help="as config.data.tasks")
    group.add_argument("--languages", type=_names, default=(), help="as config.data.languages")
    arguments = parser.parse_args(argv)
    for name in ("examples", "batch_tokens"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(arguments, name)}")
    asked = arguments.prompts or arguments.prompt_language != "all"
    if arguments.plan and asked and arguments.conditioning != "prompts":
        parser.error("--prompts and --prompt_language change lengths with --conditioning=prompts")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one sentence on stderr."""
    given = _arguments(argv)
    try:
        corpus = Corpus(given.data, Selection(given.tasks, given.languages))
        start = read_parts(given.init_from) if given.init_from else Parts()
        vocabulary = _vocabulary(given, start, corpus)
        family = given.family or start.family or "qwen2_audio"
        preprocessor = Preprocessor(
            load_tokenizer(vocabulary),
            family,
            given.conditioning,
            MEL_BINS[family],
            FAMILY_FIELDS[family]["frame_rounding"],
            templates=templates_of(given.prompts, given.prompt_language),
            silence=silence_frames(given.window),
            learn=given.learn,
            learn_newline=given.learn_newline,
            layout=LAYOUTS[0],
        )
        if given.plan:
            index = corpus.index(given.split)
            sample = corpus_statistics(index).sample()
            _show(*plan(preprocessor.lengths([index[i] for i in sample]), given.batch_tokens))
            if len(sample) < len(index):
                print(f"from {len(sample):,} of {len(index):,} records, the longest among them")
            print(_told_vocabulary(given, vocabulary, preprocessor.tokenizer.vocab_size))
        else:
            out = given.out or corpus.path / "inspect.html"
            write_inspection(out, corpus, given.split, preprocessor, given.examples)
            print(f"page: {out}")
    except (CorpusError, OSError, ValueError) as error:
        print(f"error: {told_of(error, given.out or given.data)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
