"""Recording from the microphone, where the machine has one (package sounddevice)."""

import numpy as np

from qwen_audio_jax.audio.decode import resample
from qwen_audio_jax.audio.lengths import MIN_SAMPLES
from qwen_audio_jax.terminal.clips import Clip

_BLOCKS_PER_SECOND = 10
MOST_SECONDS = 300.0
"""A recording ends by itself after so long."""


class MicrophoneError(ValueError):
    """Nothing can be recorded. One sentence, with the mend."""


class Recording:
    """A recording that runs from `__enter__` to `__exit__`, at the microphone's own rate.

    Attributes:
        level: the loudest sample of the last tenth of a second, full scale 1.
    """

    def __init__(self):
        """Raises MicrophoneError: the package or a microphone is missing."""
        try:
            import sounddevice
        except ImportError:
            raise MicrophoneError(
                "recording takes one more package: pip install -e '.[microphone]'; or record with "
                "another program and add the file with /audio"
            ) from None
        except OSError:
            raise MicrophoneError(
                "sounddevice does not find the library PortAudio: install it (libportaudio2 on "
                "Debian and Ubuntu), or record with another program and add the file with /audio"
            ) from None
        self.level = 0.0
        self._blocks: list[np.ndarray] = []
        self._full = False
        try:
            device = sounddevice.query_devices(kind="input")
            self._rate = round(device["default_samplerate"])
            self._stream = sounddevice.InputStream(
                samplerate=self._rate,
                channels=1,
                dtype="float32",
                blocksize=self._rate // _BLOCKS_PER_SECOND,
                callback=self._take,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise MicrophoneError(
                f"no microphone can be opened ({error}); plug one in, or add a file with /audio"
            ) from None

    def __enter__(self) -> "Recording":
        self._stream.start()
        return self

    def __exit__(self, *_) -> None:
        self._stream.close()

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return sum(map(len, self._blocks)) / self._rate

    def told(self) -> str:
        """A line about it, for who is recording."""
        end = (
            "as long as it may be: press Enter"
            if self._full
            else "Enter ends it, Ctrl-C throws it away"
        )
        return f"● {self.seconds:5.1f} s {level_bar(self.level)}  {end} "

    def clip(self, name: str) -> Clip:
        """What was recorded.

        Raises:
            MicrophoneError: it is too short.
        """
        blocks = self._blocks or [np.zeros(0, np.float32)]
        wave = resample(np.concatenate(blocks), self._rate)
        if len(wave) < MIN_SAMPLES:
            raise MicrophoneError("nothing was recorded; speak before you press Enter")
        return Clip(name, wave)

    def _take(self, block: np.ndarray, *_) -> None:
        """Called by a thread of PortAudio's with float32 [samples, 1], which is reused."""
        if self.seconds >= MOST_SECONDS:
            self._full = True
            return
        self._blocks.append(block[:, 0].copy())
        self.level = float(np.abs(block).max(initial=0.0))


def level_bar(level: float, width: int = 20) -> str:
    """A level from -60 dB to full scale as a bar."""
    decibels = 20 * np.log10(max(level, 1e-9))
    lit = round(width * min(max(decibels / 60 + 1, 0.0), 1.0))
    return "█" * lit + "·" * (width - lit)
