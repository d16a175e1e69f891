"""Ranks and scales of adapters as configurations say them: an alpha, and patterns of exceptions."""

import collections
import math
from collections.abc import Sequence

from qwen_audio_jax.conversion.adapter_config import scale
from qwen_audio_jax.models.presets import Adapter


def alphas(pairs: Sequence[tuple[int, float]]) -> tuple[bool, list[float]]:
    """Alphas that give scales: whole ones, where these do.

    Args:
        pairs: ranks and scales.

    Returns:
        (whether alpha is divided by the rank's square root, alpha of each).
    """
    for rslora in (False, True):
        found = [round(wanted / scale(1, rank, rslora=rslora)) for rank, wanted in pairs]
        if all(
            scale(alpha, rank, rslora=rslora) == wanted
            for alpha, (rank, wanted) in zip(found, pairs, strict=True)
        ):
            return rslora, found
    return False, [_alpha(rank, wanted) for rank, wanted in pairs]


def _alpha(rank: int, wanted: float) -> float:
    """What divided by the rank comes closest to a scale: nearly always to the bit."""
    about = wanted * rank
    near = (about, math.nextafter(about, 0), math.nextafter(about, math.inf))
    return min(near, key=lambda alpha: abs(alpha / rank - wanted))


def usual(values: Sequence[float]) -> float:
    """The most frequent one."""
    return collections.Counter(values).most_common(1)[0][0]


def training_flags(adapters: Sequence[Adapter]) -> str:
    """How a run is told to train these adapters on: `config.lora` as flags of the command line."""
    rslora, each = alphas([(adapter.rank, adapter.scale) for adapter in adapters])
    ranks = [adapter.rank for adapter in adapters]
    paths = [f"^{adapter.path}$" for adapter in adapters]
    values = {"rank": usual(ranks), "alpha": usual(each), "rslora": rslora}
    values["dropout"] = max(adapter.dropout for adapter in adapters)
    values["targets"] = _quoted(", ".join(f'"{path}"' for path in paths) + ",", "()")
    for key, found in (("rank", ranks), ("alpha", each)):
        others = zip(paths, found, strict=True)
        pattern = [f'"{path}": {value}' for path, value in others if value != values[key]]
        values[f"{key}_pattern"] = _quoted(", ".join(pattern), "{}") if pattern else ""
    return " ".join(f"--config.lora.{key}={value}" for key, value in values.items() if value)


def _quoted(text: str, brackets: str) -> str:
    return f"'{brackets[0]}{text}{brackets[1]}'"
