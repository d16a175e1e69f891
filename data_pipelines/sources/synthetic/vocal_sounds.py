"""Six human sounds that are no speech, from noise and a voice source through three formants."""

from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipelines.sources.synthetic.clips import clip, silence
from data_pipelines.sources.synthetic.sounds import (
    SAMPLE_RATE,
    Draw,
    clock,
    noise,
    octaves_between,
    sweep,
)
from data_pipelines.sources.synthetic.split import size

VOWELS = {"a": (750, 1200, 2600), "o": (450, 800, 2600), "i": (300, 2200, 3000)}
"""Formants in Hz of an adult's vowels."""


def voiced(frequency: np.ndarray, vowel: str, tract: float = 1.0) -> np.ndarray:
    """A sung vowel, [S].

    Args:
        frequency: of the voice in Hz, [S].
        vowel: a key of VOWELS.
        tract: how much higher the formants lie than an adult man's.
    """
    base, phase = float(np.median(frequency)), sweep(frequency)
    wave = np.zeros(len(frequency))
    for harmonic in range(1, int(min(5000, 0.47 * SAMPLE_RATE) / base) + 1):
        f = harmonic * base
        peaks = ((f - tract * formant) / (60 + 0.07 * formant) for formant in VOWELS[vowel])
        wave += (sum(1 / (1 + p * p) for p in peaks) + 0.02) / harmonic * np.sin(harmonic * phase)
    return wave / np.abs(wave).max()


def _laughter(u: float, rng: Draw) -> np.ndarray:
    base, vowel = octaves_between(u, 130, 320), ("a", "o")[int(rng.integers(2))]
    parts = []
    for number in range(int(rng.integers(4, 7))):
        t = clock(rng.uniform(0.09, 0.13))
        pitch = base * (1 - 0.05 * number) * (1 - 0.6 * t)
        breath = 0.12 * noise(0.07, 800, 5000, rng) * np.hanning(clock(0.07).size)
        parts += [breath, voiced(pitch, vowel, 1.1) * np.hanning(t.size) ** 0.5]
    return np.concatenate(parts)


def _cough(u: float, rng: Draw) -> np.ndarray:
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        t = clock(rng.uniform(0.2, 0.3))
        burst = noise(t[-1] + 1 / SAMPLE_RATE, 300, octaves_between(u, 1800, 3500), rng)
        rough = voiced(np.full(t.size, octaves_between(u, 110, 200)), "a")
        tail = 0.5 * rough[: burst.size] * (t[: burst.size] > 0.06)
        parts += [(burst[: t.size] + tail) * np.exp(-t[: burst.size] / 0.07), silence(0.12)]
    return np.concatenate(parts)


def _sneeze(u: float, rng: Draw) -> np.ndarray:
    inhale = 0.15 * noise(0.35, 1000, 4000, rng) * np.linspace(0, 1, clock(0.35).size) ** 2
    t = clock(rng.uniform(0.22, 0.32))
    hiss = noise(0.4, 1500, octaves_between(u, 5000, 7500), rng)[: t.size] * np.exp(-t / 0.09)
    vowel = voiced(octaves_between(u, 200, 380) * (1 - 0.5 * t / t[-1]), "i")
    return np.concatenate((inhale, silence(0.05), hiss + 0.5 * vowel * np.exp(-t / 0.06)))


def _sigh(u: float, rng: Draw) -> np.ndarray:
    length = rng.uniform(0.8, 1.3)
    t = clock(length)
    breath = noise(length, 300, octaves_between(u, 1500, 3000), rng, slope=-0.5)
    tone = voiced(octaves_between(u, 120, 240) * (1 - 0.35 * t / length), "a")
    swell = np.minimum(1, t / 0.12) * np.exp(-t / (0.4 * length))
    return (breath + 0.6 * tone) * swell


def _throat_clearing(u: float, rng: Draw) -> np.ndarray:
    parts = []
    for _ in range(2):
        t = clock(rng.uniform(0.18, 0.3))
        jitter = 1 + 0.12 * np.repeat(rng.standard_normal(t.size // 100 + 1), 100)[: t.size]
        tone = voiced(octaves_between(u, 75, 125) * jitter, "o", 0.9)
        rough = 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(22, 32) * t)
        grit = 0.15 * noise(0.3, 200, 2500, rng)[: t.size]
        parts += [(tone * rough + grit) * np.hanning(t.size), silence(0.06)]
    return np.concatenate(parts)


def _sniff(u: float, rng: Draw) -> np.ndarray:
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        t = clock(rng.uniform(0.16, 0.28))
        hiss = noise(0.3, octaves_between(u, 900, 2200), 6500, rng)[: t.size]
        parts += [hiss * (t / t[-1]) ** 1.5, silence(rng.uniform(0.12, 0.2))]
    return np.concatenate(parts)


VOCAL_SOUNDS: dict[str, Callable[[float, Draw], np.ndarray]] = {
    "Laughter": _laughter,
    "Cough": _cough,
    "Sneeze": _sneeze,
    "Sigh": _sigh,
    "Throat clearing": _throat_clearing,
    "Sniff": _sniff,
}
"""By the names of VocalSound, whose task it is."""


def vocal_sound_named(
    validation: bool, ordinal: int, rng: Draw
) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """vocal_sound_classification: validation has unseen sizes of every sound."""
    name, u = tuple(VOCAL_SOUNDS)[ordinal % len(VOCAL_SOUNDS)], size(validation, rng)
    wave = VOCAL_SOUNDS[name](u, rng)
    wave = np.concatenate((silence(rng.uniform(0, 0.1)), wave, silence(rng.uniform(0, 0.1))))
    return (clip(wave, rng),), {"text": name, "size": round(u, 3)}
