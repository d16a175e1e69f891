"""Speech by eSpeak NG, in this process, with the times of its words.

eSpeak NG carries state from one utterance into the next: the phase of the pitch flutter, the
resonators of the breath noise, the automatic gain; `espeak_Terminate` does not reset it. So the
library is loaded afresh for every utterance (about 0.5 ms) and unloaded after it: the same
arguments then give the same samples in any process and in any order.
"""

import _ctypes
import atexit
import ctypes
import dataclasses
import functools
import os
import shutil
import tempfile
import threading

import numpy as np
import soxr

SAMPLE_RATE = 16_000
_ESPEAK_RATE = 22_050

# Path of each voice under espeak-ng-data/lang. A bare name ("en") makes eSpeak NG read every voice
# file that it has before it finds the one.
_VOICE_FILES = {
    "en": "gmw/en",
    "zh": "sit/cmn",
    "de": "gmw/de",
    "es": "roa/es",
    "ko": "ko",
    "fr": "roa/fr",
    "ja": "jpx/ja",
    "it": "roa/it",
    "en-US": "gmw/en-US",
    "en-GB-x-rp": "gmw/en-GB-x-rp",
    "en-GB-scotland": "gmw/en-GB-scotland",
    "en-GB-x-gbclan": "gmw/en-GB-x-gbclan",
    "en-GB-x-gbcwmd": "gmw/en-GB-x-gbcwmd",
    "en-029": "gmw/en-029",
}

# Values of speak_lib.h. Not AUDIO_OUTPUT_RETRIEVAL: that speaks from a thread, and `espeak_Synth`
# then returns before the samples are there.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_END = 0, 1, 5
# eSpeak NG keeps its data path in 160 bytes and cuts a longer one off.
_LONGEST_DATA_PATH = 120

_one_at_a_time = threading.Lock()


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One spoken text.

    Attributes:
        samples: float32 [S], 16 kHz mono, peak 1, without silence before or after.
        words: (word, start, end) in seconds from the first sample; a word ends where the next
            begins, the last one with the speech. A Chinese word is one or two characters.
    """

    samples: np.ndarray
    words: tuple[tuple[str, float, float], ...]


def speak(
    text: str, language: str, variant: str, pitch: int = 50, rate: int = 170, span: int = 50
) -> Utterance:
    """Speaks `text`.

    Args:
        text: words with spaces between them (Chinese: characters).
        language: "en", "zh", "de", "es", "ko", "fr", "ja" or "it", or an English dialect such as
            "en-GB-scotland".
        variant: an eSpeak NG voice variant, such as "f3" or "m1".
        pitch: 0..99, 50 is the variant's own.
        rate: words per minute.
        span: how far the pitch moves, 0..99; 50 is as usual, 0 a monotone.

    Raises:
        ImportError: espeakng_loader is not installed.
        ValueError: no such variant.
        RuntimeError: eSpeak NG refuses; the message names the call.
    """
    library, data = _installation()
    # eSpeak NG takes the plain voice where it does not know the variant, and says nothing.
    if not os.path.isfile(os.path.join(data, b"voices", b"!v", variant.encode())):
        raise ValueError(f"variant {variant!r}: eSpeak NG has no such voice variant")
    # The Japanese topic particle is written "ha" and said "wa", which eSpeak NG does not know.
    said = text.replace(" は ", " わ ") if language == "ja" else text
    with _one_at_a_time:
        samples, events = _synthesise(
            library, data, said, f"{_VOICE_FILES[language]}+{variant}", pitch, rate, span
        )
    first, last = _speech_extent(samples)
    end = min([last, *(sample for kind, sample, _ in events if kind == _EVENT_END)])
    marks = [(max(s, first), at - 1) for kind, s, at in events if kind == _EVENT_WORD]
    # eSpeak NG may take several Chinese characters for one word, and then reports the first alone.
    stops = [*marks[1:], (end, len(text))]
    words = tuple(
        (text[at:to].strip(), (s - first) / _ESPEAK_RATE, (e - first) / _ESPEAK_RATE)
        for (s, at), (e, to) in zip(marks, stops, strict=True)
    )
    speech = samples[first:last].astype(np.float32)
    speech = soxr.resample(speech, _ESPEAK_RATE, SAMPLE_RATE)
    return Utterance(speech / np.abs(speech).max(), words)


def _speech_extent(samples: np.ndarray) -> tuple[int, int]:
    """First and one past the last sample louder than 1 % of the peak (-40 dB)."""
    level = np.abs(samples.astype(np.int32))  # 16 bits have no room for -(-32768)
    loud = np.flatnonzero(level > 0.01 * level.max())
    return int(loud[0]), int(loud[-1]) + 1


def _synthesise(
    library: str, data: bytes, text: str, voice: str, pitch: int, rate: int, span: int
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """int16 [S] at 22.05 kHz and the events as (kind, sample, text position from 1)."""
    pieces: list[bytes] = []
    events: list[tuple[int, int, int]] = []

    @_Callback
    def collect(wave, count, event):
        if wave and count > 0:
            pieces.append(ctypes.string_at(wave, 2 * count))
        i = 0
        while event[i].type != _EVENT_END_OF_LIST:
            e = event[i]
            events.append((e.type, e.sample, e.text_position))
            i += 1
        return 0

    espeak = ctypes.CDLL(library)
    try:
        # Without DONT_EXIT a missing data folder ends the whole process.
        if espeak.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _DONT_EXIT) != _ESPEAK_RATE:
            raise RuntimeError(f"eSpeak NG finds no data in {data.decode()!r}")
        # espeak_Initialize has seeded it with the time of day.
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
        espeak.espeak_SetSynthCallback(collect)
        if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {voice!r}")
        espeak.espeak_SetParameter(_PARAMETER_RATE, rate, 0)
        espeak.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        espeak.espeak_SetParameter(_PARAMETER_RANGE, span, 0)
        raw = text.encode()
        size = ctypes.c_size_t(len(raw) + 1)
        if espeak.espeak_Synth(raw, size, 0, 1, 0, _CHARS_UTF8, None, None) != 0:
            raise RuntimeError(f"eSpeak NG cannot speak {text!r}")
        espeak.espeak_Terminate()
    finally:
        _unload(espeak)
    return np.frombuffer(b"".join(pieces), np.int16), events


def _unload(library: ctypes.CDLL) -> None:
    release = _ctypes.FreeLibrary if os.name == "nt" else _ctypes.dlclose
    release(library._handle)


@functools.cache
def _installation() -> tuple[str, bytes]:
    """Path of the eSpeak NG library and of its data, the latter short enough for it."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(
            "the synthetic corpus needs eSpeak NG: pip install -e '.[synthetic]'"
        ) from error
    return espeakng_loader.get_library_path(), os.fsencode(
        _short_path(espeakng_loader.get_data_path())
    )


def _short_path(folder: str) -> str:
    """`folder`, or a link to it from a temporary folder where its own path is too long."""
    if len(os.fsencode(folder)) <= _LONGEST_DATA_PATH:
        return folder
    shelf = tempfile.mkdtemp(prefix="espeak")
    atexit.register(shutil.rmtree, shelf, ignore_errors=True)
    link = os.path.join(shelf, "espeak-ng-data")
    os.symlink(folder, link)
    return link
