"""/record, with a stand-in for the package that hears nothing on a machine without a microphone."""

import builtins
import sys
import types

import numpy as np
import pytest

from qwen_audio_jax.terminal import microphone
from qwen_audio_jax.terminal.microphone import MicrophoneError, Recording, level_bar


@pytest.fixture
def heard(monkeypatch):
    """A microphone of 48 kHz; what is put into it is recorded."""
    streams = []

    class InputStream:
        def __init__(self, *, samplerate, channels, dtype, blocksize, callback):
            assert (samplerate, channels, dtype, blocksize) == (48000, 1, "float32", 4800)
            self.callback, self.started, self.closed = callback, False, False
            streams.append(self)

        def start(self):
            self.started = True

        def close(self):
            self.closed = True

    module = types.SimpleNamespace(
        InputStream=InputStream,
        PortAudioError=type("PortAudioError", (Exception,), {}),
        query_devices=lambda kind: {"default_samplerate": 48000.0},
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)

    def put(wave):
        # PortAudio's memory is used again for the next block.
        block = np.empty((4800, 1), np.float32)
        for part in wave.reshape(-1, 4800, 1):
            block[:] = part
            streams[-1].callback(block, 4800, None, None)

    return streams, put, module


def test_a_recording_is_a_clip_at_16_khz(heard):
    streams, put, _ = heard
    time = np.arange(48000) / 48000
    with Recording() as recording:
        put((0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
        assert recording.seconds == 1.0
        assert "1.0 s" in recording.told()
        assert recording.level == pytest.approx(0.5, abs=0.01)
    assert streams[0].started
    assert streams[0].closed
    clip = recording.clip("recording")
    assert (clip.seconds, clip.wave.dtype) == (1.0, np.float32)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(clip.wave[500:-500], expected[500:-500], atol=1e-3)


def test_it_ends_at_the_most_that_a_clip_may_have(heard, monkeypatch):
    _, put, _ = heard
    monkeypatch.setattr(microphone, "MOST_SECONDS", 0.2)
    with Recording() as recording:
        put(np.ones(48000, np.float32))
    assert recording.seconds == pytest.approx(0.2)
    assert "press Enter" in recording.told()


def test_nothing_recorded_is_told(heard):
    with Recording() as recording:
        pass
    with pytest.raises(MicrophoneError, match="nothing was recorded"):
        recording.clip("recording")


def test_no_microphone_is_told(heard):
    *_, module = heard

    def refuse(kind):
        raise module.PortAudioError("Error querying device -1")

    module.query_devices = refuse
    with pytest.raises(MicrophoneError, match=r"no microphone can be opened .*plug one in"):
        Recording()


@pytest.mark.parametrize(
    ("error", "told"),
    [(ImportError, r"pip install -e '\.\[microphone\]'"), (OSError, "install it .*libportaudio2")],
)
def test_a_missing_package_is_told(monkeypatch, error, told):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "sounddevice":
            raise error("no such thing")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MicrophoneError, match=told):
        Recording()


def test_levels_are_shown_from_60_db_below_full_scale():
    assert level_bar(0.0, 4) == "····"
    assert level_bar(0.001, 4) == "····"
    assert level_bar(10 ** (-30 / 20), 4) == "██··"
    assert level_bar(1.0, 4) == level_bar(5.0, 4) == "████"
