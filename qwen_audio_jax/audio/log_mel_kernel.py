"""The arithmetic of log-mel, compiled by Numba: samples -> power spectra -> mel -> logarithm.

32 frames lie side by side, one a lane, and every innermost loop goes over the lanes, so that each
operation becomes one of vectors. A frame's 400 samples are transformed as 16 x 25 (Cooley and
Tukey, 1965), in float64: in float32 the rounding of the loudest bin would show in bins 80 dB below
it. A sum of powers, none of them negative, loses nothing, so what follows is float32.

Any processor gives the same bits: where a multiplication and an addition are rounded once, it says
so (`_fma`), nothing else is contracted or reordered, and the logarithm is this file's own.
"""

import functools
import math
import pickle
from collections.abc import Callable

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from qwen_audio_jax.audio.lengths import HOP, WINDOW_SAMPLES

N_FFT = 400
FREQUENCIES = N_FFT // 2 + 1

GROUP = 4
"""Frequencies weighed at once; the weights are padded to a multiple of it."""

_LANES = 32
_EDGE = N_FFT // 2

_HOPS = _LANES + 2
_PITCH = _LANES + 4
"""Hops that a block of frames spans (a frame, three of them), and room for each."""

_COLUMNS, _ROWS = 16, 13
"""Every 16th sample makes a column; its transform, the input being real, is known by 13 rows."""


def _root(n: int, k: int) -> tuple[float, float]:
    """exp(-2 pi i k / n)."""
    return math.cos(2 * math.pi * k / n), -math.sin(2 * math.pi * k / n)


# By `math`, since NumPy's cosine is another one on another processor.
_HANN = np.array([0.5 - 0.5 * _root(N_FFT, n)[0] for n in range(N_FFT)])
_TWIDDLES = np.array([_root(N_FFT, c * k) for c in range(_COLUMNS) for k in range(_ROWS)]).ravel()
"""The periodic Hann window, and exp(-2 pi i c k / 400): [16 c, 13 k, real and imaginary], flat."""

_compiled = numba.njit(error_model="numpy")
_inlined = numba.njit(forceinline=True, error_model="numpy")


def scratch() -> tuple[np.ndarray, ...]:
    """What `mel_levels` works in, 200 KB: for one thread at a time."""
    return (
        np.empty(HOP * _PITCH),
        np.empty(_COLUMNS * _ROWS * 2 * _LANES),
        np.empty(FREQUENCIES * _LANES, np.float32),
        np.empty(_COLUMNS // 2 * _ROWS * _LANES, np.float32),
    )


@intrinsic
def _fma(_context, a, b, c):
    """The sum a * b + c, rounded once."""
    return a(a, b, c), lambda _context, builder, _signature, numbers: builder.fma(*numbers)


@intrinsic
def _split(_context, x):
    """(e, m) of a positive normal float32 x = m * 2 ** e, m from the root of 1/2 to that of 2."""

    def build(context, builder, signature, numbers):
        integer, real = (context.get_value_type(kind) for kind in (types.int32, types.float32))
        bits = builder.bitcast(numbers[0], integer)
        exponent = builder.ashr(builder.sub(bits, integer(0x3F3504F3)), integer(23))
        mantissa = builder.sub(bits, builder.shl(exponent, integer(23)))
        both = [builder.sitofp(exponent, real), builder.bitcast(mantissa, real)]
        return context.make_tuple(builder, signature.return_type, both)

    return types.UniTuple(types.float32, 2)(types.float32), build


@_inlined
def _sample(waveform, i):
    """A sample of the clip padded with zeros to 30 s, and that reflected at both ends."""
    i = abs(i)
    if i >= WINDOW_SAMPLES:
        i = 2 * (WINDOW_SAMPLES - 1) - i
    return np.float64(waveform[i]) if i < len(waveform) else 0.0


@_compiled
def _lay(waveform, start, hops):
    """The samples from `start` on, hop beside hop: [160, hops]."""
    inside = start >= 0 and start + _HOPS * HOP <= len(waveform)
    for hop in range(_HOPS):
        at = start + hop * HOP
        if inside:
            for n in range(HOP):
                hops[n * _PITCH + hop] = waveform[at + n]
        else:
            for n in range(HOP):
                hops[n * _PITCH + hop] = _sample(waveform, at + n)


_FIFTH_ROOTS = math.sqrt(5) / 4
_S1, _S2 = -_root(5, 1)[1], -_root(5, 2)[1]


@_inlined
def _real5(a, b, c, d, e):
    """Discrete Fourier transform of five real numbers: 0, 1 and 2; 3 and 4 are conjugates."""
    p, q, u, v = b + e, c + d, b - e, c - d
    t, n = p + q, _FIFTH_ROOTS * (p - q)
    m = _fma(-0.25, t, a)
    return a + t, m + n, -_fma(_S1, u, _S2 * v), m - n, _fma(_S1, v, -_S2 * u)


@_inlined
def _complex5(ar, ai, br, bi, cr, ci, dr, di, er, ei):
    """Of five complex numbers."""
    pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
    ur, ui, vr, vi = br - er, bi - ei, cr - dr, ci - di
    tr, ti, nr, ni = pr + qr, pi + qi, _FIFTH_ROOTS * (pr - qr), _FIFTH_ROOTS * (pi - qi)
    mr, mi = _fma(-0.25, tr, ar), _fma(-0.25, ti, ai)
    xr, xi, yr, yi = mr + nr, mi + ni, mr - nr, mi - ni
    fr, fi = _fma(_S1, ur, _S2 * vr), _fma(_S1, ui, _S2 * vi)
    gr, gi = _fma(_S2, ur, -_S1 * vr), _fma(_S2, ui, -_S1 * vi)
    return (
        *(ar + tr, ai + ti, xr + fi, xi - fr, yr + gi),
        *(yi - gr, yr - gi, yi + gr, xr - fi, xi + fr),
    )


@_inlined
def _complex4(ar, ai, br, bi, cr, ci, dr, di):
    """Of four complex numbers."""
    pr, pi, qr, qi = ar + cr, ai + ci, ar - cr, ai - ci
    ur, ui, vr, vi = br + dr, bi + di, br - dr, bi - di
    return pr + ur, pi + ui, qr + vi, qi - vr, pr - ur, pi - ui, qr - vi, qi + vr


@_inlined
def _times(ar, ai, br, bi):
    """Product of two complex numbers."""
    return _fma(ar, br, -ai * bi), _fma(ar, bi, ai * br)


_R1, _I1 = _root(25, 1)
_R2, _I2 = _root(25, 2)
_R3, _I3 = _root(25, 3)
_R4, _I4 = _root(25, 4)
_R6, _I6 = _root(25, 6)
_R8, _I8 = _root(25, 8)


@_inlined
def _five(hops, n, lane):
    """The 5-point transform of a frame's samples n, n + 80, ... n + 320, windowed."""
    low = n * _PITCH + lane
    high = low + 80 * _PITCH
    return _real5(
        hops[low] * _HANN[n],
        hops[high] * _HANN[n + 80],
        hops[low + 1] * _HANN[n + 160],
        hops[high + 1] * _HANN[n + 240],
        hops[low + 2] * _HANN[n + 320],
    )


@_inlined
def _put(spectra, at, lane, real, imaginary):
    """Stores a number turned by its twiddle."""
    real, imaginary = _times(real, imaginary, _TWIDDLES[at], _TWIDDLES[at + 1])
    spectra[at * _LANES + lane] = real
    spectra[(at + 1) * _LANES + lane] = imaginary


@_compiled
def _columns(hops, spectra):
    """25-point transforms of every 16th sample, turned: [16 c, 13 k, 2, lanes]."""
    for c in range(_COLUMNS):
        at = 2 * _ROWS * c
        for lane in range(_LANES):
            a0, a1r, a1i, a2r, a2i = _five(hops, c, lane)
            b0, b1r, b1i, b2r, b2i = _five(hops, c + 16, lane)
            c0, c1r, c1i, c2r, c2i = _five(hops, c + 32, lane)
            d0, d1r, d1i, d2r, d2i = _five(hops, c + 48, lane)
            e0, e1r, e1i, e2r, e2i = _five(hops, c + 64, lane)
            x0, x5r, x5i, x10r, x10i = _real5(a0, b0, c0, d0, e0)
            spectra[at * _LANES + lane] = x0
            spectra[(at + 1) * _LANES + lane] = 0.0
            _put(spectra, at + 10, lane, x5r, x5i)
            _put(spectra, at + 20, lane, x10r, x10i)
            b1r, b1i = _times(b1r, b1i, _R1, _I1)
            c1r, c1i = _times(c1r, c1i, _R2, _I2)
            d1r, d1i = _times(d1r, d1i, _R3, _I3)
            e1r, e1i = _times(e1r, e1i, _R4, _I4)
            x1r, x1i, x6r, x6i, x11r, x11i, x16r, x16i, x21r, x21i = _complex5(
                a1r, a1i, b1r, b1i, c1r, c1i, d1r, d1i, e1r, e1i
            )
            _put(spectra, at + 2, lane, x1r, x1i)
            _put(spectra, at + 12, lane, x6r, x6i)
            _put(spectra, at + 22, lane, x11r, x11i)
            _put(spectra, at + 18, lane, x16r, -x16i)
            _put(spectra, at + 8, lane, x21r, -x21i)
            b2r, b2i = _times(b2r, b2i, _R2, _I2)
            c2r, c2i = _times(c2r, c2i, _R4, _I4)
            d2r, d2i = _times(d2r, d2i, _R6, _I6)
            e2r, e2i = _times(e2r, e2i, _R8, _I8)
            x2r, x2i, x7r, x7i, x12r, x12i, x17r, x17i, x22r, x22i = _complex5(
                a2r, a2i, b2r, b2i, c2r, c2i, d2r, d2i, e2r, e2i
            )
            _put(spectra, at + 4, lane, x2r, x2i)
            _put(spectra, at + 14, lane, x7r, x7i)
            _put(spectra, at + 24, lane, x12r, x12i)
            _put(spectra, at + 16, lane, x17r, -x17i)
            _put(spectra, at + 6, lane, x22r, -x22i)


_HALF = math.sqrt(0.5)
_C1, _D1 = _root(16, 1)
_C3, _D3 = _root(16, 3)
_C9, _D9 = _root(16, 9)


@_inlined
def _four(spectra, at, lane):
    """The 4-point transform of every fourth column of a row."""
    step = 4 * _ROWS * 2 * _LANES
    r = at * _LANES + lane
    i = r + _LANES
    return _complex4(
        *(spectra[r], spectra[i], spectra[r + step], spectra[i + step]),
        *(spectra[r + 2 * step], spectra[i + 2 * step]),
        *(spectra[r + 3 * step], spectra[i + 3 * step]),
    )


@_inlined
def _put_powers(powers, beyond, j, k, lane, numbers):
    """Stores the squared magnitudes at frequencies k + 25 j and 100, 200 and 300 above."""
    ar, ai, br, bi, cr, ci, dr, di = numbers
    low = (25 * j + k) * _LANES + lane
    powers[low] = _fma(ar, ar, ai * ai)
    powers[low + 100 * _LANES] = _fma(br, br, bi * bi)
    high = (_ROWS * j + k) * _LANES + lane
    beyond[high] = _fma(cr, cr, ci * ci)
    beyond[high + 4 * _ROWS * _LANES] = _fma(dr, dr, di * di)


@_compiled
def _rows(spectra, powers, beyond):
    """16-point transforms of the 13 rows, squared: powers [201 frequencies, lanes].

    `beyond` is for the frequencies above 200: 400 - f has the power of f.
    """
    for k in range(_ROWS):
        at = 2 * k
        for lane in range(_LANES):
            a0r, a0i, a1r, a1i, a2r, a2i, a3r, a3i = _four(spectra, at, lane)
            b0r, b0i, b1r, b1i, b2r, b2i, b3r, b3i = _four(spectra, at + 26, lane)
            c0r, c0i, c1r, c1i, c2r, c2i, c3r, c3i = _four(spectra, at + 52, lane)
            d0r, d0i, d1r, d1i, d2r, d2i, d3r, d3i = _four(spectra, at + 78, lane)
            four = _complex4(a0r, a0i, b0r, b0i, c0r, c0i, d0r, d0i)
            _put_powers(powers, beyond, 0, k, lane, four)
            b1r, b1i = _times(b1r, b1i, _C1, _D1)
            c1r, c1i = _HALF * (c1r + c1i), _HALF * (c1i - c1r)
            d1r, d1i = _times(d1r, d1i, _C3, _D3)
            four = _complex4(a1r, a1i, b1r, b1i, c1r, c1i, d1r, d1i)
            _put_powers(powers, beyond, 1, k, lane, four)
            b2r, b2i = _HALF * (b2r + b2i), _HALF * (b2i - b2r)
            d2r, d2i = _HALF * (d2i - d2r), -_HALF * (d2r + d2i)
            four = _complex4(a2r, a2i, b2r, b2i, c2i, -c2r, d2r, d2i)
            _put_powers(powers, beyond, 2, k, lane, four)
            b3r, b3i = _times(b3r, b3i, _C3, _D3)
            c3r, c3i = _HALF * (c3i - c3r), -_HALF * (c3r + c3i)
            d3r, d3i = _times(d3r, d3i, _C9, _D9)
            four = _complex4(a3r, a3i, b3r, b3i, c3r, c3i, d3r, d3i)
            _put_powers(powers, beyond, 3, k, lane, four)
    for j in range(_COLUMNS // 2):
        for k in range(_ROWS):
            to, at = (200 - 25 * j - k) * _LANES, (_ROWS * j + k) * _LANES
            for lane in range(_LANES):
                powers[to + lane] = beyond[at + lane]


_THIRD, _FIFTH, _SEVENTH, _ONE = (np.float32(1 / n) for n in (3, 5, 7, 1))
_TWO_SCALES = np.float32(2 / (4 * math.log(10)))
_OCTAVE = np.float32(math.log10(2) / 4)
_LEAST, _LOWEST = np.float32(1e-10), np.float32(-1.5)


@_compiled
def _weigh(powers, firsts, counts, weights, mel):
    """Mel energies, [M, lanes], of powers [frequencies, lanes]; see `mel_levels`."""
    for m in range(len(counts)):
        out = mel[m * _LANES : (m + 1) * _LANES]
        for i in range(0, counts[m], GROUP):
            at = (firsts[m] + i) * _LANES
            heard = powers[at : at + GROUP * _LANES]
            a, b, c, d = weights[m, i], weights[m, i + 1], weights[m, i + 2], weights[m, i + 3]
            for lane in range(_LANES):
                low = _fma(a, heard[lane], b * heard[lane + _LANES])
                high = _fma(c, heard[lane + 2 * _LANES], d * heard[lane + 3 * _LANES])
                out[lane] = low + high if i == 0 else out[lane] + (low + high)


@_compiled
def _take_logarithms(mel):
    """Turns energies into (log10(energy) + 4) / 4, clamped at -1.5; NaN if one is not finite."""
    for i in range(len(mel)):
        energy = mel[i]
        exponent, mantissa = _split(energy)
        # log(m) = 2 atanh((m - 1) / (m + 1)), of at most 0.172 here.
        s = (mantissa - _ONE) / (mantissa + _ONE)
        z = s * s
        series = _fma(_fma(_fma(_SEVENTH, z, _FIFTH), z, _THIRD), z, _ONE)
        level = _fma(exponent, _OCTAVE, _fma(_TWO_SCALES * s, series, _ONE))
        mel[i] = _LOWEST if energy <= _LEAST else level + (energy - energy)


@_compiled
def _survey(mel, lanes, tops, sums):
    """Goes on with the highest level of each lane, and the sum, which keeps any NaN."""
    for m in range(len(mel) // _LANES):
        for lane in range(lanes):
            level = mel[m * _LANES + lane]
            sums[lane] += level
            tops[lane] = level if level > tops[lane] else tops[lane]


@_compiled
def _write(mel, lanes, out):
    """Copies lanes to frames, [F, M]."""
    for lane in range(lanes):
        for m in range(out.shape[1]):
            out[lane, m] = mel[m * _LANES + lane]


def _mel_levels(waveform, reached, firsts, counts, weights, out, scratch):
    """Writes (log10(energy) + 4) / 4 of each mel bin, clamped at -1.5, frame by frame.

    Args:
        waveform: float32 [S], at most 30 s.
        reached: how many frames to compute.
        firsts, counts: int64 [M], which FFT frequencies a bin hears; counts are multiples of GROUP.
        weights: float32 [M, the largest count], of those.
        out: float32 [F, M]; of the frames computed, the first F are written.
        scratch: of this thread, see `scratch`.

    Returns:
        The highest level of all frames computed; NaN if an energy is not finite.
    """
    hops, spectra, powers, beyond = scratch
    mel = np.empty(len(counts) * _LANES, np.float32)
    tops, sums = np.full(_LANES, _LOWEST), np.zeros(_LANES, np.float32)
    for first in range(0, reached, _LANES):
        _lay(waveform, first * HOP - _EDGE, hops)
        _columns(hops, spectra)
        _rows(spectra, powers, beyond)
        _weigh(powers, firsts, counts, weights, mel)
        _take_logarithms(mel)
        lanes = min(_LANES, reached - first)
        _survey(mel, lanes, tops, sums)
        _write(mel, min(lanes, len(out) - first), out[first:])
    return tops.max() if math.isfinite(sums.sum()) else np.float32(math.nan)


_SIGNATURE = types.float32(
    types.Array(types.float32, 1, "C", readonly=True),
    types.int64,
    *[types.int64[::1]] * 2,
    *[types.float32[:, ::1]] * 2,
    types.Tuple([types.float64[::1]] * 2 + [types.float32[::1]] * 2),
)


@functools.cache
def mel_levels() -> Callable[..., np.float32]:
    """`_mel_levels` compiled, to be called without Python's lock.

    That takes some seconds, but for what Numba's cache has. A cache that is damaged, cannot be
    written or has no place is done without.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(_SIGNATURE, cache=True, **options)(_mel_levels)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return numba.njit(_SIGNATURE, **options)(_mel_levels)
