"""Eight acoustic scenes: a background that makes the place, and two sounds that happen there."""

from collections.abc import Callable

import numpy as np

from data_pipelines.sources.synthetic.sounds import (
    Draw,
    clock,
    event,
    noise,
    octaves_between,
    place,
    sweep,
)


def _street(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    passing = np.exp(-(((t - rng.uniform(0.3, 0.7) * seconds) / 0.5) ** 2))
    return noise(seconds, 60, 900, rng, slope=-0.6) * (0.5 + octaves_between(u, 0.7, 1.4) * passing)


def _kitchen(u: float, seconds: float, rng: Draw) -> np.ndarray:
    running_water = noise(seconds, 1200, octaves_between(u, 3000, 4500), rng)
    return 0.6 * running_water + 0.5 * np.sin(2 * np.pi * 100 * clock(seconds))


def _forest(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    leaves = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.4, 1) * t + rng.uniform(0, 6.3))
    return 0.35 * noise(seconds, 300, octaves_between(u, 1200, 2200), rng, slope=-0.5) * leaves


def _rain_storm(u: float, seconds: float, rng: Draw) -> np.ndarray:
    return noise(seconds, 700, 7500, rng) + octaves_between(u, 0.5, 1) * noise(
        seconds, 150, 400, rng
    )


def _engine_room(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t, base = clock(seconds), octaves_between(u, 45, 70)
    hum = sum(np.sin(2 * np.pi * base * h * t + rng.uniform(0, 6.3)) / h**0.5 for h in range(1, 9))
    whine = np.sin(2 * np.pi * base * 18 * t)
    return hum + 0.5 * whine + 0.5 * noise(seconds, 100, 2000, rng)


def _beach(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    wave = 0.55 + 0.45 * np.sin(2 * np.pi * octaves_between(u, 0.5, 0.8) * t + rng.uniform(0, 6.3))
    return noise(seconds, 200, 4500, rng, slope=-0.4) * wave**2


def _night_meadow(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    trill = (np.sin(2 * np.pi * octaves_between(u, 16, 28) * t + rng.uniform(0, 6.3)) > 0) * 1.0
    return trill * np.sin(2 * np.pi * rng.uniform(4300, 4900) * t) + 0.15 * noise(
        seconds, 100, 800, rng
    )


def _office(u: float, seconds: float, rng: Draw) -> np.ndarray:
    fan = noise(seconds, 80, octaves_between(u, 350, 600), rng)
    keys = [
        (at, 4 * noise(0.015, 1500, 6000, rng) * np.exp(-clock(0.015) / 0.004))
        for at in np.cumsum(rng.uniform(0.08, 0.2, int(seconds / 0.1)))
    ]
    return 0.5 * fan + place(fan.size, keys)


# Foreground sounds that are no events of their own.
def _clink(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    tones = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(2500, 6500, 4))
    return tones * np.exp(-t / 0.06)


def _horn(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    return sum(np.sin(2 * np.pi * f * h * t) / h for f in (400, 500) for h in range(1, 6))


def _gull(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    phase = sweep(octaves_between(u, 1300, 1800) * (1.3 - 0.5 * t / seconds))
    return sum(np.sin(h * phase) / h for h in (1, 2, 3)) * np.sin(np.pi * t / seconds)


def _clank(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    tones = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(500, 3000, 5))
    return tones * np.exp(-t / 0.08)


def _ring(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    trill = np.sin(2 * np.pi * 20 * t) > 0
    return trill * (np.sin(2 * np.pi * 1200 * t) + np.sin(2 * np.pi * 1500 * t))


_OWN = {"clink": _clink, "horn": _horn, "gull": _gull, "clank": _clank, "telephone": _ring}

SCENES: dict[str, tuple[Callable, tuple[str, str, str]]] = {
    "street": (_street, ("horn", "siren", "engine")),
    "kitchen": (_kitchen, ("clink", "clock", "alarm")),
    "forest": (_forest, ("bird", "wind", "dog")),
    "rain storm": (_rain_storm, ("thunder", "wind", "knock")),
    "engine room": (_engine_room, ("clank", "alarm", "engine")),
    "beach": (_beach, ("gull", "wind", "dog")),
    "night meadow": (_night_meadow, ("bird", "dog", "wind")),
    "office": (_office, ("telephone", "knock", "clock")),
}
"""Background and the three sounds that can happen there, two of them in each clip."""


def scene(
    name: str, missing: int, u: float, seconds: float, rng: Draw
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A clip of the scene, [S], and the names of the two foreground sounds in it.

    Args:
        name: a key of SCENES.
        missing: which of the three foreground sounds is not there, 0..2.
        u: leading parameter of the background, 0..1.
        seconds: length.
        rng: draws everything else.
    """
    background, sounds = SCENES[name]
    chosen = tuple(s for i, s in enumerate(sounds) if i != missing)
    line = background(u, seconds, rng)
    line = line / np.sqrt(np.mean(line**2))
    for half, sound in enumerate(chosen):
        length = rng.uniform(0.3, 0.5)
        wave = _OWN[sound](u, length, rng) if sound in _OWN else event(sound, u, length, rng)
        wave = wave / np.sqrt(np.mean(wave**2)) * rng.uniform(0.8, 1.6)
        at = (half + rng.uniform(0.05, 0.4)) * (seconds - 0.2) / 2
        line = line + place(line.size, [(at, wave)])
    return line, chosen
