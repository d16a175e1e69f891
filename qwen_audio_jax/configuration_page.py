"""The page of keys: `python -m qwen_audio_jax.configuration_page > docs/configuration.md`."""

import dataclasses
import inspect
import pathlib
import runpy
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from qwen_audio_jax.compilation.topology import SETUPS
from qwen_audio_jax.config_fields import describe, plain
from qwen_audio_jax.models.presets import PRESETS
from qwen_audio_jax.run_config import FREE_KEYS, RunConfig, dotted, flat

PRETRAIN = pathlib.Path(__file__).parents[1] / "configs" / "pretrain.py"

HEAD = """# Configuration

Written by `python -m qwen_audio_jax.configuration_page > docs/configuration.md` from
`qwen_audio_jax/run_config.py`, whose dataclasses describe their fields, and `configs/pretrain.py`,
which has the values.

    python -m qwen_audio_jax.main --config=configs/pretrain.py:PRESET@TOPOLOGY --config.KEY=VALUE

**`PRESET`** is a size of the model, from `qwen_audio_jax/models/presets.py`, with the values that
go with it: [Presets](#presets). **`@TOPOLOGY`** is a slice of TPUs, for which it sets the batch,
micro-batches, remat and mesh: [Topologies](#topologies). Either may be left out:
`configs/pretrain.py` is the preset `tiny`.

**`--config.KEY=VALUE`** overrides a key, and there may be any number of them. Text and numbers are
written as they are (`--config.model.dtype=float32`), tuples and mappings as in Python
(`--config.optimizer.frozen='("^encoder/",)'`; `--config.data.mixture='{"my_corpus": 1.0}'` replaces
the whole mapping). A key that does not exist, or a value that is not what it must be, is one
sentence, before anything starts. The values of a run are in `config.json` in its folder.

**Going on.** The same command goes on where its run has stopped. Meanwhile a key may change if the
tables below say so. The others decide what is trained: with another value for one of them, a run
folder given by `--workdir` is refused, and without `--workdir` another folder is begun, because a
digest of these keys is in its name.

## Keys

Defaults are those of the preset `tiny`.
"""

ABOUT_TOPOLOGIES = """\
What a topology sets, so that the preset fits; for others, `compile_report --search` finds it.
[scale.md](scale.md) has these and those of configs/sft.py and configs/dpo.py. A name with a space
is quoted: `--config='configs/pretrain.py:qwen2_audio_7b@2x v5e:16x16'`."""


def page(get_config: Callable[[str], ConfigDict]) -> str:
    """The page in Markdown.

    Args:
        get_config: that of configs/pretrain.py, from PRESET or PRESET@TOPOLOGY to a configuration.

    Raises:
        ValueError: a field of the configuration is not described; the sentence names it.
    """
    parts = [HEAD]
    for path, meaning, rows in _groups(RunConfig, get_config("tiny").to_dict()):
        parts.append(f"\n### {_key(path) if path else '`config`'}\n\n{meaning}\n\n")
        parts.append(_table(["key", "type", "must be", "default", "may change", "meaning"], rows))

    names = [f"{at.preset}@{at.topology}" for at in SETUPS if at.config == "pretrain"]
    values = {name: flat(get_config(name).to_dict()) for name in (*PRESETS, *names)}
    differing = _differing((values["tiny"], values[preset]) for preset in PRESETS)
    rows = [[_key(key), *(_code(values[name][key]) for name in PRESETS)] for key in differing]
    parts.append("\n## Presets\n\nThe keys in which they differ.\n\n")
    parts.append(_table(["key", *PRESETS], rows))

    brought = _differing((values[name.partition("@")[0]], values[name]) for name in names)
    rows = [[f"`{name}`", *(_code(values[name][key]) for key in brought)] for name in names]
    parts.append(f"\n## Topologies\n\n{ABOUT_TOPOLOGIES}\n\n")
    parts.append(_table(["`PRESET@TOPOLOGY`", *map(_key, brought)], rows))
    return "".join(parts)


def descriptions(kind: type) -> dict[str, str]:
    """What the docstring of a class says under "Attributes:", by name.

    An entry begins with `name: ` or `name, other: `, and its further lines are indented.
    """
    found: dict[str, str] = {}
    names: list[str] = []
    _, _, entries = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    for line in textwrap.dedent(entries.partition("\n\n")[0]).splitlines():
        if not line.startswith(" "):
            head, _, line = line.partition(": ")
            names = head.split(", ")
        for name in names:
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def _groups(
    kind: type, values: Mapping[str, Any], path: str = "", meaning: str = "Keys of no group."
) -> list[tuple[str, str, list[list[str]]]]:
    """(path, meaning, rows of the table) of a group of keys and of those within it."""
    texts = descriptions(kind)

    def text_of(name: str) -> str:
        if not texts.get(name):
            raise ValueError(
                f"{kind.__module__}.{kind.__name__}.{name}: is not described; say what it is under "
                '"Attributes:" in the docstring of its class'
            )
        return texts[name][0].upper() + texts[name][1:]

    rows: list[list[str]] = []
    groups = [(path, meaning, rows)]
    for name, of in typing.get_type_hints(kind, include_extras=True).items():
        key, value = f"{path}/{name}".strip("/"), values[name]
        if dataclasses.is_dataclass(of):
            groups += _groups(of, value, key, text_of(name))
        elif any(other.startswith(f"{name}.") for other in texts):
            # A mapping whose keys are known beforehand, as the mesh's are.
            one = typing.get_args(typing.get_args(of)[0])[1]
            items = [
                _row(f"{key}/{item}", one, value[item], text_of(f"{name}.{item}")) for item in value
            ]
            groups.append((key, text_of(name), items))
        else:
            rows.append(_row(key, of, value, text_of(name)))
    return groups


def _row(key: str, kind: Any, default: Any, meaning: str) -> list[str]:
    free = any(f"{key}/".startswith(f"{one}/") for one in FREE_KEYS)
    of = inspect.formatannotation(plain(kind)).replace("collections.abc.Mapping", "dict")
    may_change = "yes" if free else "no"
    return [_key(key), f"`{of}`", describe(kind), _code(default), may_change, meaning]


def _differing(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """The keys in which the two of any pair differ, in the order of the alphabet."""
    return sorted({key for one, other in pairs for key in one if one[key] != other[key]})


def _key(path: str) -> str:
    return f"`{dotted(path)}`"


def _code(value: Any) -> str:
    """A value as it is typed."""
    return f"`{value}`" if isinstance(value, str) and value else f"`{value!r}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # A line that divides two columns would do so within code too.
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(page(runpy.run_path(str(PRETRAIN))["get_config"]), end="")
