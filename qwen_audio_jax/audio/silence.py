"""How much of the silence behind a clip the encoder sees: what a window, as one word, means.

"clip" is none, as Qwen-Audio and Qwen2-Audio mask what lies behind a clip; "window" is all up to
the end of its 30 s, as Whisper was trained; "clip+1.5s" is a fixed stretch, within those 30 s.
Silence is of zeros, and its log-mel the floor that the clip's own maximum sets. The encoder attends
to it; no audio token is made of it.
"""

import re

from qwen_audio_jax.audio.lengths import HOP, SAMPLE_RATE, WINDOW_FRAMES

CLIP, WINDOW = "clip", "window"
_STRETCH = re.compile(r"clip\+(\d{1,2}(?:\.\d{1,2})?)s")


def silence_frames(window: str) -> int:
    """Mel frames of silence that are seen behind a clip, where its 30 s have room for them.

    Raises:
        ValueError: it is no window.
    """
    if window in (CLIP, WINDOW):
        return WINDOW_FRAMES if window == WINDOW else 0
    match = _STRETCH.fullmatch(window)
    frames = round(float(match[1]) * SAMPLE_RATE / HOP) if match else 0
    if not 0 < frames <= WINDOW_FRAMES:
        raise ValueError(f"window: {window!r} is none of {', '.join(KNOWN)}")
    return frames


def seen_frames(frames: int, silence: int) -> int:
    """Mel frames that the encoder attends to: a clip's own, and silence to its window's end."""
    return min(frames + silence, max(frames, WINDOW_FRAMES))


KNOWN = (CLIP, WINDOW, "clip+1s (or another time up to 30 s)")


class WindowOrAuto:
    """Of a text in the configuration: a window, or "auto"."""

    def allows(self, value: str) -> bool:
        try:
            return value == "auto" or bool(silence_frames(value)) or value == CLIP
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"one of auto, {', '.join(KNOWN)}"
