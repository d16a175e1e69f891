// Sampling rates: a microphone's to the model's.

// Band-limited interpolation with a windowed sinc (Blackman's window): nothing above half the lower
// rate is left to fold back. The filter of each phase is computed once.
function resampled(samples, from, to = RATE) {
  if (from === to) return samples;
  const common = divisor(from, to);
  const [step, phases] = [from / common, to / common];
  const cutoff = 0.92 * Math.min(1, to / from); // of the half of `from`
  const reach = Math.ceil(40 / cutoff); // samples on each side
  const filters = Array.from({ length: phases }, (_, phase) => filter(phase / phases, cutoff, reach));
  const result = new Float32Array(Math.ceil((samples.length * to) / from));
  for (let i = 0; i < result.length; i++) {
    const place = i * step;
    const first = Math.floor(place / phases) - reach + 1;
    const taps = filters[place % phases];
    let sum = 0;
    for (let j = Math.max(0, -first); j < taps.length && first + j < samples.length; j++) {
      sum += taps[j] * samples[first + j];
    }
    result[i] = sum;
  }
  return result;
}

// Taps for a place that lies `fraction` of a sample behind the tap `reach - 1`.
function filter(fraction, cutoff, reach) {
  const taps = Float32Array.from({ length: 2 * reach }, (_, j) => {
    const x = j - reach + 1 - fraction;
    const sinc = x === 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x);
    const turn = (Math.PI * x) / reach;
    return sinc * (0.42 + 0.5 * Math.cos(turn) + 0.08 * Math.cos(2 * turn));
  });
  const sum = taps.reduce((total, tap) => total + tap, 0);
  return taps.map((tap) => tap / sum);
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}
