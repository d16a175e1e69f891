"""A talk as one file: a zip of its turns (talk.json) and its clips (clip-1.wav, clip-2.wav ...).

Clips are kept as the floats they are, and answers with the ids that the model wrote, so that a talk
goes on as if it had not been left. Ids mean something to their own model alone, so the file tells
which it was.
"""

import dataclasses
import io
import json
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile

from qwen_audio_jax.audio.decode import AudioError, decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.terminal.regular_files import size_of

_TALK = "talk.json"
_FORM = 1
_MOST_JSON_BYTES = 64 << 20
_MOST_CLIP_BYTES = 1 << 30
"""An hour of a clip has 230 MB."""


class TalkFileError(ValueError):
    """A file that cannot be written or read. One sentence with the file and the mend."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Which model a talk is of.

    Attributes:
        name: for people.
        weights: what is told of its values, as `inference.weights.weights_of` gives it.
    """

    name: str
    weights: str


def save(
    path: str, state: dict[str, Any], clips: Sequence[np.ndarray], model: Model, *, replace: bool
) -> None:
    """Writes a talk, whole or not at all.

    Args:
        path: the file.
        state: what JSON can hold of the talk.
        clips: float32 [samples] at 16 kHz each, in order.
        model: that it is with.
        replace: whether a file may be there.

    Raises:
        TalkFileError: it cannot be written.
    """
    file = pathlib.Path(path)
    try:
        if file.exists() and not replace:
            raise TalkFileError(f"{path}: is there already; save under another name")
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as out, zipfile.ZipFile(out, "w") as archive:
                told = {"form": _FORM, "model": dataclasses.asdict(model), "talk": state}
                told["clips"] = len(clips)
                archive.writestr(
                    _TALK, json.dumps(told, ensure_ascii=False, indent=1), zipfile.ZIP_DEFLATED
                )
                for number, wave in enumerate(clips, start=1):
                    archive.writestr(_clip(number), _wav(wave))
            os.replace(temporary, file)
        except BaseException:
            pathlib.Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TalkFileError(
            f"{path}: cannot be written: {error.strerror or error}; save elsewhere"
        ) from None
    except ValueError as error:
        if isinstance(error, TalkFileError):
            raise
        raise TalkFileError(
            f"{path!r}: cannot be a file's name ({error}); choose another"
        ) from None


def load(path: str, model: Model) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads a talk.

    Args:
        path: the file.
        model: that it shall go on with.

    Returns:
        What `save` was given: the talk, and its clips.

    Raises:
        TalkFileError: it is none, is damaged, or is one with another model.
    """
    try:
        _check_file(path)
        with zipfile.ZipFile(path) as archive:
            told = json.loads(_read(archive, _TALK, _MOST_JSON_BYTES))
            saved = Model(**told["model"])
            state, clips = told["talk"], told["clips"]
            counted = isinstance(clips, int) and clips >= 0
            if told["form"] != _FORM or not isinstance(state, dict) or not counted:
                raise ValueError("it is of another form")
            if saved.weights != model.weights:
                other = f"the name {saved.name!r} and other weights"
                if saved.name != model.name:
                    other = f"the name {saved.name!r}, and this is {model.name!r}"
                raise TalkFileError(
                    f"{path}: is a talk with another model, which had {other}; open it with the "
                    "checkpoint that it was saved from"
                )
            return state, [
                decode(_read(archive, _clip(number), _MOST_CLIP_BYTES))
                for number in range(1, clips + 1)
            ]
    except FileNotFoundError:
        raise TalkFileError(f"{path}: there is no such file; Tab completes names") from None
    except OSError as error:
        raise TalkFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except zipfile.BadZipFile:
        raise TalkFileError(f"{path}: is no talk; name a file that /save wrote") from None
    except TalkFileError:
        raise
    except _DAMAGED as error:
        raise TalkFileError(
            f"{path}: is damaged, or no talk ({_reason(error)}); name a file that /save wrote"
        ) from None


def _check_file(path: str) -> None:
    try:
        size_of(path, "name a file that /save wrote")
    except ValueError as error:
        raise TalkFileError(str(error)) from None


_DAMAGED = (
    KeyError,
    TypeError,
    ValueError,
    AudioError,
    EOFError,
    RuntimeError,  # of what is encrypted
    NotImplementedError,  # of what is packed otherwise
    RecursionError,
    zlib.error,
)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return " ".join(str(error).split())[:120] or type(error).__name__


def _clip(number: int) -> str:
    return f"clip-{number}.wav"


def _wav(wave: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if name not in archive.namelist():
        raise ValueError(f"{name} is missing")
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} is too large")
    return archive.read(name)
