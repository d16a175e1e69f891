r"""Talks with a model in the terminal.

    python -m qwen_audio_jax.chat --checkpoint=runs/mine
    python -m qwen_audio_jax.chat --checkpoint=runs/mine --temperature=0.7 --top_p=0.9
    python -m qwen_audio_jax.chat --checkpoint=runs/pretrained --task=asr --language=en
    echo "/audio question.wav" | python -m qwen_audio_jax.chat --checkpoint=runs/mine > answer.txt

Type, or add sound with `/audio FILE`; `/help` shows the other commands. A model that was not tuned
on conversations is asked with --task, which puts pre-training's tags or prompt behind each clip.
Where it is no terminal, lines are read, answers go to standard output, and all else to standard
error. docs/chat.md says more.
"""

import argparse
import importlib.util
import os
import pathlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after one sentence on what is wrong; 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return _talk(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _talk(options: argparse.Namespace) -> int:
    if sys.stdin is None or sys.stdout is None:  # `<&-` in a shell
        print("error: chat takes an open standard input and output", file=sys.stderr)
        return 1
    # Imported late: --help should not wait for JAX.
    from qwen_audio_jax.terminal.screen import Screen

    screen = Screen(interactive=sys.stdin.isatty() and sys.stdout.isatty())
    if screen.interactive and not importlib.util.find_spec("prompt_toolkit"):
        print("error: chat takes one more package: pip install -e '.[chat]'", file=sys.stderr)
        return 1
    try:
        with screen.starting("starting ..."):
            from qwen_audio_jax.terminal.start import run
        return run(options, screen)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # who read the answers has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qwen_audio_jax.chat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="a run folder (its last step), one of its checkpoints/STEP, an imported folder, or an "
        "exported one",
    )
    parser.add_argument(
        "--adapter",
        default="",
        metavar="DIR",
        help="a LoRA run that started from it",
    )
    parser.add_argument(
        "--task", default="", help="asks a pre-training task about each clip instead of talking"
    )
    parser.add_argument("--language", default="", metavar="CODE", help="of the clips of --task")
    parser.add_argument(
        "--target_language", default="", metavar="CODE", help="of the answers of --task"
    )
    for name, kind, default, says in (
        ("temperature", float, 0.0, "divides the logits before a draw; 0 takes the likeliest word"),
        ("top_p", float, 1.0, "draws among the likeliest tokens of this probability together"),
        ("top_k", int, 0, "draws among so many of the likeliest tokens; 0 is off"),
        ("repetition_penalty", float, 1.0, "over 1 makes tokens that were there less likely"),
        ("seed", int, 0, "of the draws; each answer takes the next"),
        ("max_new_tokens", int, 512, "of an answer"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=f"{says} (default: {default})"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
