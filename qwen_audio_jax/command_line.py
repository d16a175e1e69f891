"""What the commands with a `--config` share."""

import ast
import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser


class TupleParser(tuple_parser.TupleParser):
    """Of a tuple's flag; ml_collections' own would take a mapping's keys or a set for one."""

    def parse(self, argument: Any) -> tuple:
        """Raises ValueError: what was typed is no tuple, list or single value."""
        try:
            value = ast.literal_eval(argument) if isinstance(argument, str) else argument
        except (SyntaxError, ValueError):
            value = argument
        if isinstance(value, dict | set | bytes):
            raise ValueError(f"a tuple is typed in round brackets, not as a {type(value).__name__}")
        return super().parse(argument)


class MappingParser(flags.ArgumentParser):
    """Of a mapping's flag; in ml_collections' own no key may have a dot, as corpora's names do."""

    def parse(self, argument: str | ConfigDict) -> ConfigDict:
        """Raises ValueError: what was typed is no mapping, or says a key twice."""
        if isinstance(argument, ConfigDict):
            return argument
        try:
            typed = ast.parse(argument.strip(), mode="eval").body
            value = ast.literal_eval(typed)
        except SyntaxError as error:
            raise ValueError(str(error)) from error
        if not isinstance(typed, ast.Dict):
            raise ValueError("no mapping")
        if len(typed.keys) > len(value):
            raise TwiceError("a key stands in it twice")
        return ConfigDict(value, allow_dotted_keys=True)


class TwiceError(ValueError):
    """A mapping of which only a part would be taken."""


config_flags.register_flag_parser_for_type(tuple, TupleParser())
config_flags.register_flag_parser_for_type(ConfigDict, MappingParser())


def parse_flags(
    argv: list[str],
    into: flags.FlagValues = flags.FLAGS,
    refusal: Callable[[str, str], Exception] | None = None,
) -> list[str]:
    """Absl's parser, with every mistake told in one sentence.

    Args:
        argv: the command's words, the first of them its name.
        into: where the flags are defined.
        refusal: the error of a key and a value that cannot be read; that of a run's configuration
            if None.

    Returns:
        The words that are no flags.
    """
    for word in argv[1:]:
        key = re.match(r"--?(config\.[^=]*)", word)
        if key and not re.fullmatch(r"config(\.\w+)+", key[1]):
            print(f"error: {key[1][:99]!r}: no such key: one is of names and dots", file=sys.stderr)
            sys.exit(1)
    try:
        left = into(argv)
        # That the file is not there is only told when something is asked of it.
        getattr(into.config, "to_dict", None)
        return left
    except (AttributeError, LookupError) as error:
        print(f"error: --config has no such key: {_one_line(error)}", file=sys.stderr)
    except (flags.Error, TypeError, ValueError, OSError, OverflowError) as error:
        text = _refused_value(error, refusal) or _one_line(error)
        where = "" if "config" in text or "flag" in text else "--config: "
        print(f"error: {where}{text}", file=sys.stderr)
    except (RecursionError, MemoryError):  # of Python's parser, which reads tuples and mappings
        print("error: a value of --config is nested too deep to be read", file=sys.stderr)
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
    if not hasattr(flags.FLAGS.config, "to_dict"):
        raise app.UsageError(
            "--config: its get_config() must return a ConfigDict of ml_collections, not "
            f"{type(flags.FLAGS.config).__name__}"
        )
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    typed = config_flags.get_override_values(flags.FLAGS["config"])
    return with_one_end(flags.FLAGS.config.to_dict(), typed)


def with_one_end(values: dict[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, with a run's end that was typed in the place of the one it has.

    Args:
        values: the configuration.
        typed: the keys of it that were typed, such as "train.hours", and their values.
    """
    from qwen_audio_jax.run_config import ENDS

    if any(typed.get(f"train.{end}") for end in ENDS):
        for end in ENDS:
            if f"train.{end}" not in typed and (value := values["train"].get(end)):
                values["train"][end] = type(value)(0)  # of its type: it is in the run's digest
    return values


def _refused_value(error: Exception, refusal: Callable[[str, str], Exception] | None) -> str:
    """What a key must be, where absl only says that a value cannot be read."""
    text, _, _ = str(error).rpartition(f": {error.__context__}")
    found = re.fullmatch(r"flag --(config\.[^=]*)=(.*)", text, re.DOTALL)
    if not found:
        return ""
    if isinstance(error.__context__, TwiceError):
        return f"{found[1]}: {error.__context__}"
    if refusal is None:
        from qwen_audio_jax.run_config import refusal

    return str(refusal(*found.groups()))


def _one_line(error: Exception) -> str:
    # ml_collections quotes a quoted message, line breaks and all; of an error in a configuration
    # file it tells the whole traceback, whose last line is the sentence.
    text = str(error)
    if "Error whilst parsing config file" in text:
        text = text.strip().splitlines()[-1].partition("Error: ")[2]
    text = " ".join(text.replace("\\n", " ").replace("\\", "").split())
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    text = text.replace("' Did", ". Did").removeprefix("'")
    if text.count("'") % 2:
        text = text.removesuffix("'")
    text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return text if len(text) <= 600 else f"{text[:400]} [...] {text[-100:]}"
