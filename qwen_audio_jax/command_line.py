"""What the commands with a `--config` share."""

import logging
import sys
from typing import Any

from absl import app, flags


def parse_flags(argv: list[str]) -> list[str]:
    """Absl's parser, with every mistake told in one sentence."""
    try:
        left = flags.FLAGS(argv)
        # That the file is not there is only told when something is asked of it.
        getattr(flags.FLAGS.config, "to_dict", None)
        return left
    except (AttributeError, KeyError) as error:
        print(f"error: --config has no such key: {_one_line(error)}", file=sys.stderr)
    except (flags.Error, TypeError, ValueError, OSError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
    except (ImportError, NameError, SyntaxError) as error:  # of what is no configuration file
        print(f"error: --config is no configuration: {_one_line(error)}", file=sys.stderr)
    sys.exit(1)


def config_of(argv: list[str], example: str) -> dict[str, Any]:
    """The configuration's keys, for a `main` that takes flags alone.

    Raises:
        app.UsageError: there is none, or words that are no flags.
    """
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r} is not understood; options begin with --")
    if flags.FLAGS.config is None:
        raise app.UsageError(f"--config is missing; try --config={example}")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    return flags.FLAGS.config.to_dict()


def _one_line(error: Exception) -> str:
    # ml_collections quotes a quoted message, line breaks and all; of an error in a configuration
    # file it tells the whole traceback, whose last line is the sentence.
    text = str(error).replace("\\n", " ").replace("\\", "")
    if "Traceback" in text:
        text = text.strip().splitlines()[-1].partition("Error: ")[2]
    text = " ".join(text.split())
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return (text[1:-1] if quoted else text).replace("' Did", ". Did").removeprefix("'")
