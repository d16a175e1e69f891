"""What the commands with a `--config` share."""

import sys

from absl import app


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's parser, with a configuration key that does not exist told in one sentence."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:
        print(f"error: --config has no such key: {_one_line(error)}", file=sys.stderr)
    except (TypeError, ValueError, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(1)


def _one_line(error: Exception) -> str:
    # ml_collections quotes a quoted message, line breaks and all.
    text = str(error).replace("\\n", " ").replace("\\", "")
    return " ".join(text.split()).strip("'\"").replace("' Did", ". Did")
