"""The flags of `data_pipelines.build`: which there are, and which go with which source."""

import argparse
import math
import pathlib
from collections.abc import Sequence

from data_pipelines.beam_runner import RUNNERS
from data_pipelines.records import SPLITS
from data_pipelines.sources import conversations, published

TRAIN_EXAMPLES, VALIDATION_EXAMPLES, SEED = 10000, 1200, 0
FLAGS = {
    "manifest": ("manifest", "split"),
    "conversations": ("manifest", "split", "form", "media_dir", "unplaced_audio"),
    "synthetic": ("tasks", "hours", "train_examples", "validation_examples", "seed"),
    "tfds": ("dataset", "root", "tasks", "split", "fields"),
}
"""Each source's own flags."""
LISTS = ("manifest", "conversations")
"""Sources that are a file of the user's own, and so one split."""
PUBLISHED_FLAGS = ("root", "tasks", "split")


def read_flags(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """What was asked for. Ends the program, with a sentence, where flags do not go together."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.build",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, choices=[*FLAGS, *published.PUBLISHED])
    parser.add_argument(
        "--out", type=pathlib.Path, help="corpus folder to write (default: data/SOURCE)"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument(
        "--runner", choices=RUNNERS, help="make the shards with Apache Beam instead: docs/data.md"
    )
    parser.add_argument("--beam_args", default="", help="Beam's own options, in one string")
    parser.add_argument("--overwrite", action="store_true", help="replace a split that is there")
    group = parser.add_argument_group("--source=manifest|conversations")
    group.add_argument(
        "--manifest", type=pathlib.Path, help="JSONL file; of conversations, also a list in .json"
    )
    _add_conversations(parser.add_argument_group("--source=conversations"))
    group = parser.add_argument_group(f"--source={'|'.join(published.PUBLISHED)}")
    group.add_argument(
        "--root",
        type=pathlib.Path,
        help="the folder that its archive unpacks to (tfds: ~/tensorflow_datasets)",
    )
    group = parser.add_argument_group("--source=tfds")
    group.add_argument("--dataset", help="NAME, NAME/CONFIG or NAME:VERSION, as TFDS spells it")
    group.add_argument("--fields", help="field=feature or field='text': docs/data.md")
    group = parser.add_argument_group("these, manifest and conversations")
    group.add_argument(
        "--split",
        choices=SPLITS,
        help="which split to write (default: train of one's own, else both)",
    )
    group = parser.add_argument_group("all but manifest and conversations")
    group.add_argument(
        "--tasks",
        help="which of its tasks, with commas; `all` is all of them (default: synthetic all, the "
        "others their first); synthetic makes conversations where `chat` is named, "
        "and preference pairs where `preference` is",
    )
    group = parser.add_argument_group("--source=synthetic (always writes both splits)")
    group.add_argument("--hours", type=float, help="of training audio, about: 0.2, 100, ...")
    group.add_argument("--train_examples", type=int, help=f"instead (default: {TRAIN_EXAMPLES})")
    group.add_argument("--validation_examples", type=int, help=f"default: {VALIDATION_EXAMPLES}")
    group.add_argument("--seed", type=int, help=f"default: {SEED}")
    arguments = parser.parse_args(argv)
    arguments.out = arguments.out or pathlib.Path("data") / arguments.source
    _check_flags(parser, arguments)
    return arguments


def _add_conversations(group: argparse._ArgumentGroup) -> None:
    forms = (conversations.AUTO, *conversations.FORMS)
    group.add_argument(
        "--form", choices=forms, help="how the talks are written (default: told by their keys)"
    )
    group.add_argument(
        "--media-dir",
        "--media_dir",
        type=pathlib.Path,
        help="where relative paths of clips start (default: the manifest's folder)",
    )
    group.add_argument(
        "--unplaced_audio",
        choices=("first",),
        help="put clips without a placeholder before the first user's words, as ms-swift does "
        "(default: reject such rows)",
    )


def _check_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program where flags do not go together."""
    if arguments.runner and arguments.workers:
        parser.error("--workers does not go with --runner; Beam has options of its own")
    if arguments.beam_args and not arguments.runner:
        parser.error("--beam_args needs --runner")
    own = FLAGS.get(arguments.source, PUBLISHED_FLAGS)
    for name in sorted({*PUBLISHED_FLAGS, *(flag for flags in FLAGS.values() for flag in flags)}):
        if name not in own and getattr(arguments, name) is not None:
            parser.error(f"--{name} does not go with --source={arguments.source}")
    if arguments.source in LISTS and arguments.manifest is None:
        parser.error(f"--source={arguments.source} needs --manifest=FILE")
    if arguments.source in published.PUBLISHED and arguments.root is None:
        parser.error(f"--source={arguments.source} needs --root=DIR")
    if arguments.source == "tfds" and not (arguments.dataset and arguments.tasks):
        parser.error("--source=tfds needs --dataset=NAME and --tasks=TASK, see docs/data.md")
    if arguments.hours is not None:
        if arguments.train_examples is not None:
            parser.error("--hours and --train_examples: give one of them")
        if not 0 < arguments.hours < math.inf:
            parser.error(f"--hours must be above 0, not {arguments.hours}")
    for name in ("workers", "train_examples", "validation_examples"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
