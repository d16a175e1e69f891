r"""Serves a model: a page to talk to it, and OpenAI's HTTP API.

    python -m qwen_audio_jax.serve --checkpoint=runs/mine
    python -m qwen_audio_jax.serve --checkpoint=checkpoints/qwen2_audio --adapter mine=runs/lora

The page is at http://127.0.0.1:8000, the API below http://127.0.0.1:8000/v1; docs/chat.md has
examples. Other machines reach it with --host=0.0.0.0, which needs an API key: put it into the
environment variable QWEN_AUDIO_API_KEY or into a file for --api-key-file.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

KEY_VARIABLE = "QWEN_AUDIO_API_KEY"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after one sentence on what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        # Imported late: --help should not wait for JAX.
        from qwen_audio_jax.serving import start

        start.run(options, os.environ.get(KEY_VARIABLE, ""))
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "python_multipart", "anyio"):
            raise
        print(f"error: {error.name} is missing; pip install -e '.[serve]'", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qwen_audio_jax.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="a run folder, one of its checkpoints/STEP, an import, or a PyTorch folder",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a LoRA run that started from the checkpoint, served as model NAME; may be repeated",
    )
    where = parser.add_argument_group("where, and for whom")
    where.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    where.add_argument("--port", type=int, default=8000, help="(%(default)s; 0: any that is free)")
    where.add_argument(
        "--api-key",
        default="",
        metavar="KEY",
        help="that requests must have; others on this machine can read it here",
    )
    where.add_argument(
        "--api-key-file", type=pathlib.Path, metavar="FILE", help="the same, one key a line"
    )
    where.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that a reverse proxy serves it under; may be repeated",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--slots", type=int, default=4, help="answers at once (%(default)s)")
    limits.add_argument(
        "--context",
        type=int,
        default=8192,
        metavar="TOKENS",
        help="of a prompt and its answer (%(default)s)",
    )
    limits.add_argument("--queue", type=int, default=64, help="requests that wait (%(default)s)")
    limits.add_argument("--max-tokens", type=int, default=1024, help="of an answer (%(default)s)")
    limits.add_argument(
        "--max-audio-seconds", type=float, default=600, help="of a request (%(default)s)"
    )
    limits.add_argument("--max-body-mb", type=float, default=32, help="of a request (%(default)s)")
    limits.add_argument(
        "--max-answer-seconds", type=float, default=600, help="for a request (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    # The name of a folder may be no text.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
