"""JSON files of other people's making, read or refused in one sentence."""

import json
import pathlib
from typing import Any

from qwen_audio_jax.conversion.errors import ConversionError


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ConversionError: it is no UTF-8, no JSON, nested too deep, something else than an object,
            or says one key twice, so that a reader may take either.
    """
    try:
        values = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_once)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except ValueError as error:  # also of bytes that are no UTF-8
        raise ConversionError(f"{path}: is not JSON ({error})") from error
    except RecursionError:
        raise ConversionError(f"{path}: is not JSON that can be read: nested too deep") from None
    if not isinstance(values, dict):
        raise ConversionError(f"{path}: must hold a JSON object")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in values if keys.count(key) > 1)
        raise ConversionError(f"has the key {twice!r} twice; delete the one that is wrong")
    return values
