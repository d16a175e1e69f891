"""A record at another speed: how long its clips are then, and when things happen in them."""

from collections.abc import Sequence
from typing import Any

from qwen_audio_jax.audio.lengths import MIN_SAMPLES, SAMPLE_RATE
from qwen_audio_jax.tasks import KINDS

_TIMED = ("words", "events", "turns", "segments")


def rate_for(task: str, samples: Sequence[int], rate: int) -> int:
    """The rate, in Hz, that the clips are taken to have: 16,000 where they must stay as they are.

    That is where the label would not be true any more, or a clip too short for a token.
    """
    if "speed" not in KINDS[task].survives:
        return SAMPLE_RATE
    shortest = min((samples_at(n, rate) for n in samples), default=MIN_SAMPLES)
    return rate if shortest >= MIN_SAMPLES else SAMPLE_RATE


def samples_at(samples: int, rate: int) -> int:
    """Samples of a clip that is taken to have another rate, as `decode.resample` gives them."""
    return -(-samples * SAMPLE_RATE // rate)


def annotation_at(annotation: dict[str, Any], rate: int, seconds: float) -> dict[str, Any]:
    """The annotation with its times moved likewise; none is later than the clip's end."""
    if rate == SAMPLE_RATE:
        return annotation

    def moved(time: float) -> float:
        return min(time * SAMPLE_RATE / rate, seconds)

    timed = {
        field: [
            {**unit, "start": moved(unit["start"]), "end": moved(unit["end"])}
            for unit in annotation[field]
        ]
        for field in _TIMED
        if field in annotation
    }
    return annotation | timed
