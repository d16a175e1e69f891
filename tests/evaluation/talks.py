"""A few conversations."""

import numpy as np
from conftest import flac

from data_pipelines.records import Record
from qwen_audio_jax.audio.decode import decode

AUDIO = {"type": "audio"}


def text(said):
    return {"type": "text", "text": said}


def talk(name, turns, kind):
    """A talk of (clips' seconds, question, answer, whether it is learned)."""
    clips, messages = [], []
    for seconds, question, answer, learned in turns:
        for length in seconds:
            pitch = 200 + 37 * len(name) + 11 * ord(name[-1]) + 50 * len(clips)
            wave = 0.1 * np.sin(2 * np.pi * pitch * np.arange(int(16000 * length)) / 16000)
            clips.append(flac(wave))
        heard = [AUDIO] * len(seconds)
        messages.append({"role": "user", "content": [*heard, text(question)]})
        loss = {} if learned else {"loss": False}
        messages.append({"role": "assistant", "content": answer, **loss})
    record = Record(name, "chat", tuple(clips), {"messages": messages, "kind": kind})
    return record, tuple(len(decode(clip)) for clip in clips)


def talks():
    yield talk("one-a", [([0.5], "What?", "A bell.", True)], "audio_analysis")
    yield talk("one-b", [([0.6], "What?", "A dog.", True)], "audio_analysis")
    yield talk("one-c", [([0.4], "How?", "A cat.", True)], "audio_analysis")
    for name, (first, last) in {"three-a": ("Yes.", "Both."), "three-b": ("No.", "None.")}.items():
        turns = [
            ([], "Hello.", "Hi.", True),
            ([0.5], "Heard?", first, False),
            ([0.7, 0.3], "And here?", last, True),
        ]
        yield talk(name, turns, "several_turns")
    yield talk("written", [([], "Hello.", "Hi.", True)], "several_turns")
