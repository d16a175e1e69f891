"""What libsndfile reads: WAV and its kin, AIFF, AU, CAF, FLAC, one link of Ogg Vorbis."""

import io
import re

import numpy as np
import soundfile

from qwen_audio_jax.audio.formats.errors import AudioError, UnreadableError, check_length


class _Bytes(io.BytesIO):
    """Bytes as a file in which a seek before the beginning stays where it is.

    libsndfile tries such where a header is wrong; soundfile would print what Python raises.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _Forwards(soundfile.SoundFile):
    """A file that is read once, from its beginning.

    soundfile would seek to where it already is after each read, which libsndfile cannot do in GSM
    6.10, G.721, G.723, NMS ADPCM and DWVW.
    """

    def seekable(self) -> bool:
        return False


def read(data: bytes) -> tuple[np.ndarray, int]:
    """float32 [n, channels] and the sampling rate in Hz.

    Raises:
        AudioError: libsndfile cannot read it, it is broken off, or too long.
    """
    try:
        with _Forwards(_Bytes(data)) as file:
            rate, promised = file.samplerate, file.frames
            check_length(promised, file.channels, rate)
            wave = file.read(promised, dtype="float32", always_2d=True)
            missing = _missing(file, len(wave))
    except AudioError:
        raise
    except (RuntimeError, ValueError) as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        raise UnreadableError(f"it cannot be read by libsndfile ({reason})") from error
    if missing:
        raise AudioError(f"it is broken off: {missing}")
    return wave, rate


def _missing(file: soundfile.SoundFile, samples: int) -> str:
    """What a file that was broken off lacks, or "". libsndfile itself forgives such files."""
    sizes = re.search(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    # Writers that stream a WAV put a largest value where they do not know the size.
    if sizes and int(sizes[2]) < int(sizes[1]) < 0x7FFFF000:
        return f"{sizes[2]} of {sizes[1]} bytes of sound are there"
    return f"{samples} of {file.frames} samples are there" if samples < file.frames else ""
