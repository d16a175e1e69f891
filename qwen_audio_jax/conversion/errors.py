"""The one exception of conversion, and how a list of faults is told."""

from collections.abc import Sequence

_MOST = 100


class ConversionError(ValueError):
    """Something cannot be converted. The sentence names the file, what is wrong and the fix."""


def listed(*kinds: Sequence[str]) -> str:
    """Faults one to a line, of each kind the first if they are very many."""
    lines = []
    for faults in kinds:
        lines += [line if line.isprintable() else repr(line) for line in faults[:_MOST]]
        if len(faults) > _MOST:
            kind = faults[0].partition(":")[0]
            lines.append(f"{kind}: {len(faults) - _MOST:,} more")
    return "\n  ".join(lines)
