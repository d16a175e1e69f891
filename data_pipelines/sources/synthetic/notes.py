"""Single notes of eight instruments, by additive synthesis.

An instrument is a spectrum (the strength of each harmonic), an envelope, and what makes it itself:
odd harmonics only, stretched or inharmonic partials, vibrato, breath or bow noise. Velocity sets
loudness and brightness together, as it does on the real ones.
"""

import dataclasses

import numpy as np

SAMPLE_RATE = 16_000
PITCHES = (60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79, 81, 83)
"""MIDI numbers: two octaves of C major from middle C (262 Hz) up to B5 (988 Hz)."""
VELOCITIES = (25, 50, 75, 100, 127)


@dataclasses.dataclass(frozen=True)
class _Instrument:
    """How one instrument sounds.

    Attributes:
        partials: frequency ratio and relative strength of each partial.
        attack: seconds until full level.
        decay: seconds for the fundamental to fall to 1/e; None holds the note until its release.
        damping: how much faster each higher partial decays (0: all alike).
        vibrato: depth in cents at 5.5 Hz.
        tremolo: the part of the level that sways with the vibrato.
        noise: level of breath or bow noise relative to the tone.
    """

    partials: tuple[tuple[float, float], ...]
    attack: float
    decay: float | None = None
    damping: float = 0.0
    vibrato: float = 0.0
    tremolo: float = 0.0
    noise: float = 0.0


def _series(strengths: list[float], stretch: float = 0.0) -> tuple[tuple[float, float], ...]:
    """Harmonic series 1, 2, 3 ...; `stretch` sharpens the upper ones as stiff strings do."""
    return tuple(
        (h * (1 + stretch * h * h) ** 0.5, s) for h, s in enumerate(strengths, start=1) if s > 0
    )


_INSTRUMENTS = {
    "flute": _Instrument(_series([1, 0.2, 0.05]), 0.07, vibrato=10, noise=0.08),
    "organ": _Instrument(((1, 1.0), (2, 0.9), (4, 0.8), (8, 0.7)), attack=0.01),
    "guitar": _Instrument(
        _series([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], 1e-4), 0.003, 0.16, damping=0.3
    ),
    "trumpet": _Instrument(
        _series([0.4, 0.7, 1, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]), attack=0.04
    ),
    "clarinet": _Instrument(_series([1, 0, 0.8, 0, 0.6, 0, 0.4, 0, 0.25, 0, 0.15]), attack=0.03),
    "violin": _Instrument(
        _series([1, 0.7, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.18, 0.15, 0.12, 0.1]),
        attack=0.11,
        vibrato=40,
        tremolo=0.3,
        noise=0.01,
    ),
    "marimba": _Instrument(((1, 1.0), (3.93, 0.45), (9.2, 0.2)), 0.002, 0.08, damping=0.6),
    "piano": _Instrument(_series([1, 0.45, 0.2, 0.1, 0.05], 4e-4), 0.004, 0.35, damping=0.2),
}
INSTRUMENTS = tuple(_INSTRUMENTS)


def frequency(pitch: float) -> float:
    """Hz of a MIDI number."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def note(
    instrument: str, pitch: int, velocity: int, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """One note, up to 8 cents out of tune, float32 [S] at 16 kHz, peak by velocity, 0.8 at most."""
    sound = _INSTRUMENTS[instrument]
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    base = frequency(pitch + rng.uniform(-0.08, 0.08))
    strength = velocity / 127
    phase = 2 * np.pi * base * t
    start = rng.uniform(0, 2 * np.pi)
    if sound.vibrato:
        depth = sound.vibrato * np.log(2) / 1200
        sway = np.cos(2 * np.pi * 5.5 * t + start) - np.cos(start)
        phase = phase - base * depth * sway / 5.5
    tone = np.zeros_like(t)
    for ratio, level in sound.partials:
        if ratio * base > 0.47 * SAMPLE_RATE:
            continue
        # A soft note loses up to 6 dB more with each octave of the partial.
        level *= ratio ** (strength - 1) * rng.uniform(0.85, 1.15)
        partial = level * np.sin(ratio * phase + rng.uniform(0, 2 * np.pi))
        if sound.decay:
            partial *= np.exp(-t * (1 + sound.damping * (ratio - 1)) / sound.decay)
        tone += partial
    if sound.tremolo:
        tone *= 1 + sound.tremolo * np.sin(2 * np.pi * 5.5 * t + start)
    if sound.noise:
        tone += sound.noise * rng.standard_normal(t.size) * np.abs(tone).max()
    release = 0.05
    tone *= np.minimum(1, t / sound.attack) * np.minimum(1, (t[-1] - t) / release)
    # Velocity 25 is 24 dB below 127.
    peak = 0.8 * 10 ** (-1.5 * (1 - strength))
    return (peak * tone / np.abs(tone).max()).astype(np.float32)
