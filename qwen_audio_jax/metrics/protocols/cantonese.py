"""Cantonese in simplified characters, by zhconv where its user has installed it."""

import importlib
import importlib.metadata
from collections.abc import Callable


def zhconv_version() -> str | None:
    """The installed zhconv's version; None without it."""
    try:
        return importlib.metadata.version("zhconv")
    except importlib.metadata.PackageNotFoundError:
        return None


def simplified(text: str) -> str:
    """Text in the characters and words of mainland China ("zh-cn").

    Raises:
        ValueError: zhconv is not installed.
    """
    return _convert()(text, "zh-cn")


def _convert() -> Callable[[str, str], str]:
    try:
        return importlib.import_module("zhconv").convert
    except ModuleNotFoundError:
        raise ValueError(
            "the protocol v2 scores Cantonese in simplified characters, which takes zhconv: "
            "pip install zhconv (it is under the GPL, version 2 or later, so it is not a "
            "dependency of this project)"
        ) from None


def require_zhconv() -> None:
    """Raises the ValueError of `simplified` where it would."""
    _convert()
