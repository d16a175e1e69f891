"""Twelve everyday sounds, synthesised.

Every sound has one leading parameter, its size `u` in 0..1 (how high the siren is, how fast the
clock ticks): training draws it from the sides and validation from the middle, see `synthetic`.
Everything else about a sound is drawn freely.
"""

from collections.abc import Callable

import numpy as np

SAMPLE_RATE = 16_000

Draw = np.random.Generator
Sound = Callable[[float, float, Draw], np.ndarray]


def clock(seconds: float) -> np.ndarray:
    """Sample times in seconds, [S]."""
    return np.arange(max(1, int(seconds * SAMPLE_RATE))) / SAMPLE_RATE


def noise(seconds: float, low: float, high: float, rng: Draw, slope: float = 0.0) -> np.ndarray:
    """Noise from `low` to `high` Hz with soft edges, RMS 1, [S]; `slope` tilts it by f^slope."""
    size = clock(seconds).size
    f = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    shape = 1 / (1 + (low / np.maximum(f, 1)) ** 8) / (1 + (f / high) ** 8)
    shape *= (np.maximum(f, 20) / 1000) ** slope
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * shape, size)
    return wave / np.sqrt(np.mean(wave**2))


def sweep(frequency: np.ndarray) -> np.ndarray:
    """Phase in radians of a tone whose frequency in Hz is `frequency` [S]."""
    return 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE


def place(size: int, pieces: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """The pieces at their times in seconds on a line of `size` samples; what sticks out is cut."""
    line = np.zeros(size)
    for at, piece in pieces:
        start = int(at * SAMPLE_RATE)
        end = min(size, start + piece.size)
        if start < end:
            line[start:end] += piece[: end - start]
    return line


def octaves_between(u: float, low: float, high: float) -> float:
    """`low` at u = 0, `high` at u = 1, even steps in between to the ear."""
    return low * (high / low) ** u


def _repeat(
    seconds: float, period: float, rng: Draw, strike: Callable[[], np.ndarray]
) -> np.ndarray:
    """`strike` again and again, each time a little different; at least once."""
    times = np.arange(0, max(seconds - 0.5 * period, 1e-3), period)
    return place(
        clock(seconds).size,
        [(max(0, t + (t > 0) * rng.normal(0, 0.03 * period)), strike()) for t in times],
    )


def siren(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    rate, start = rng.uniform(1.2, 2.2), rng.uniform(0, 1)
    wail = np.abs(2 * ((rate * t + start) % 1) - 1)
    phase = sweep(octaves_between(u, 500, 800) * 2 ** (0.9 * wail))
    return np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase)


def bell(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t, base = clock(seconds), octaves_between(u, 420, 900)
    ratios = (0.5, 1.0, 1.19, 1.56, 2.0, 2.67, 3.01, 4.1)
    levels = (0.4, 1.0, 0.7, 0.5, 0.8, 0.4, 0.4, 0.25)
    decay = rng.uniform(0.3, 0.5)
    return sum(
        level
        * np.sin(2 * np.pi * base * ratio * t + rng.uniform(0, 6.3))
        * np.exp(-t * (0.6 + 0.4 * ratio) / decay)
        for ratio, level in zip(ratios, levels, strict=True)
    )


def rain(u: float, seconds: float, rng: Draw) -> np.ndarray:
    hiss = noise(seconds, octaves_between(u, 900, 1800), 7500, rng, slope=0.3)
    drops = (rng.random(hiss.size) < 60 / SAMPLE_RATE) * rng.uniform(2, 8, hiss.size)
    ring = np.exp(-np.arange(60) / 12) * np.sin(np.arange(60) * 1.6)
    return hiss + np.convolve(drops, ring)[: hiss.size]


def engine(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t, base = clock(seconds), octaves_between(u, 35, 75)
    phase = sweep(base * (1 + 0.03 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * t)))
    tone = sum(np.sin(h * phase + rng.uniform(0, 6.3)) / h**0.7 for h in range(1, 14))
    return tone + 0.5 * noise(seconds, 60, 500, rng) * (1 + np.sin(phase))


def knock(u: float, seconds: float, rng: Draw) -> np.ndarray:
    def strike() -> np.ndarray:
        t = clock(0.09)
        body = np.sin(2 * np.pi * octaves_between(u, 170, 330) * rng.uniform(0.97, 1.03) * t)
        return (body + 0.7 * noise(0.09, 150, 1500, rng)) * np.exp(-t / 0.018)

    return _repeat(seconds, rng.uniform(0.17, 0.24), rng, strike)


def bird(u: float, seconds: float, rng: Draw) -> np.ndarray:
    def chirp() -> np.ndarray:
        length = rng.uniform(0.06, 0.12)
        t = clock(length)
        glide = 1 + 0.35 * np.sin(2 * np.pi * rng.uniform(0.7, 1.6) * t / length)
        base = octaves_between(u, 2800, 4200) * rng.uniform(0.9, 1.1)
        return np.sin(sweep(base * glide)) * np.sin(np.pi * t / length)

    return _repeat(seconds, rng.uniform(0.13, 0.2), rng, chirp)


def alarm(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t, base = clock(seconds), octaves_between(u, 1500, 2600)
    on = (t * rng.uniform(4.5, 7)) % 1 < 0.55
    return on * (np.sin(2 * np.pi * base * t) + 0.33 * np.sin(6 * np.pi * base * t))


def thunder(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    rumble = noise(seconds, 25, octaves_between(u, 90, 220), rng, slope=-0.5)
    roll = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 5) * t + rng.uniform(0, 6.3))
    crack = noise(seconds, 100, 1500, rng) * np.exp(-t / 0.05)
    return rumble * roll * np.exp(-1.5 * t / seconds) + 0.7 * crack


def dog(u: float, seconds: float, rng: Draw) -> np.ndarray:
    def bark() -> np.ndarray:
        length = rng.uniform(0.13, 0.19)
        t = clock(length)
        rise_and_fall = 1 + 0.5 * np.sin(np.pi * t / length) - 0.3 * t / length
        phase = sweep(octaves_between(u, 260, 480) * rng.uniform(0.95, 1.05) * rise_and_fall)
        voice = sum(np.sin(h * phase) / (1 + abs(h - 3)) for h in range(1, 9))
        return (voice + 0.5 * noise(length, 400, 3000, rng)) * np.sin(np.pi * t / length) ** 0.7

    return _repeat(seconds, rng.uniform(0.28, 0.4), rng, bark)


def clock_tick(u: float, seconds: float, rng: Draw) -> np.ndarray:
    def tick() -> np.ndarray:
        t = clock(0.02)
        click = np.sin(2 * np.pi * rng.uniform(3300, 4200) * t) + noise(0.02, 2500, 7000, rng)
        return click * np.exp(-t / 0.003)

    return _repeat(seconds, octaves_between(u, 0.12, 0.22), rng, tick)


def wind(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t, middle = clock(seconds), octaves_between(u, 350, 650)
    gust = 1 + 0.6 * np.sin(2 * np.pi * rng.uniform(0.6, 1.5) * t + rng.uniform(0, 6.3))
    return noise(seconds, 0.7 * middle, 1.4 * middle, rng) * gust


def whistle(u: float, seconds: float, rng: Draw) -> np.ndarray:
    t = clock(seconds)
    bend = rng.choice((-1, 1)) * rng.uniform(0.1, 0.35) * np.sin(np.pi * t / seconds)
    phase = sweep(octaves_between(u, 1000, 1700) * 2**bend)
    return np.sin(phase) + 0.03 * noise(seconds, 1000, 3000, rng)


EVENTS: dict[str, Sound] = {
    "siren": siren,
    "bell": bell,
    "rain": rain,
    "engine": engine,
    "knock": knock,
    "bird": bird,
    "alarm": alarm,
    "thunder": thunder,
    "dog": dog,
    "clock": clock_tick,
    "wind": wind,
    "whistle": whistle,
}
"""Sound by label. Arguments: size 0..1, seconds, generator. Result: [S], any level."""

SUSTAINED = ("rain", "engine", "wind")
"""The ones that can go on behind another sound."""


def event(name: str, u: float, seconds: float, rng: Draw) -> np.ndarray:
    """The sound `name`, float64 [S], peak 1, cut to where it is louder than 3 % of that (-30 dB).

    So the first sample is its onset and the last one its offset, whatever its decay.
    """
    wave = EVENTS[name](u, seconds, rng)
    wave = wave / np.abs(wave).max()
    loud = np.flatnonzero(np.abs(wave) > 0.03)
    wave = wave[loud[0] : loud[-1] + 1]
    # 3 ms of fade, so that a cut noise does not click.
    ramp = np.minimum(1, np.arange(wave.size) / 48)
    return wave * ramp * ramp[::-1]


def struck(name: str, count: int, u: float, rng: Draw) -> np.ndarray:
    """Exactly `count` knocks, barks or beeps, evenly apart, float64 [S], peak 1."""
    stroke = {
        "knock": lambda: knock(u, 0.1, rng),
        "dog": lambda: dog(u, 0.2, rng),
        "alarm": lambda: alarm_beep(u),
    }[name]
    period = rng.uniform(0.28, 0.36)
    pieces = [(i * period, stroke()) for i in range(count)]
    wave = place(clock((count - 1) * period + 0.22).size, pieces)
    return wave / np.abs(wave).max()


def alarm_beep(u: float) -> np.ndarray:
    """One beep of 0.12 s, [S]."""
    t = clock(0.12)
    tone = np.sin(2 * np.pi * octaves_between(u, 1500, 2600) * t)
    return tone * np.minimum(1, np.minimum(t, t[-1] - t) / 0.005)
