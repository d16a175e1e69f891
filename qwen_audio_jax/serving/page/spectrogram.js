// A clip as a picture: log-mel energies, time from left to right, 0 to 8 kHz from below.

const WINDOW = 400; // 25 ms
const POINTS = 512;
const MELS = 64;
const WIDEST = 640;
const DECIBELS = 70; // below the loudest
// Dark to bright, as evenly as the eye takes it.
const COLOURS = [
  [13, 15, 36], [46, 29, 98], [104, 36, 128], [170, 51, 118], [226, 87, 84], [250, 152, 67],
  [253, 231, 156],
];

function drawSpectrogram(canvas, samples) {
  const columns = melEnergies(samples);
  canvas.width = columns.length;
  canvas.height = MELS;
  // Below this floor lies nothing that is heard: silence stays dark.
  const loudest = Math.max(-40, ...columns.map((column) => Math.max(...column)));
  const image = new ImageData(columns.length, MELS);
  columns.forEach((column, x) => {
    column.forEach((level, mel) => {
      const place = 4 * ((MELS - 1 - mel) * columns.length + x);
      image.data.set(colour(1 + (level - loudest) / DECIBELS), place);
    });
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function colour(share) {
  const place = Math.max(0, Math.min(0.9999, share)) * (COLOURS.length - 1);
  const [low, high] = [COLOURS[Math.floor(place)], COLOURS[Math.floor(place) + 1]];
  const part = place % 1;
  return [...low.map((value, i) => value + part * (high[i] - value)), 255];
}

// Of each column the energies of the mel bands in decibels: the mean of up to eight windows in it.
function melEnergies(samples) {
  const count = Math.max(1, Math.min(WIDEST, Math.floor(samples.length / 160)));
  const hop = samples.length / count;
  const windows = Math.max(1, Math.min(8, Math.round(hop / WINDOW)));
  const bands = melBands();
  return Array.from({ length: count }, (_, x) => {
    const energies = new Float64Array(MELS);
    for (let i = 0; i < windows; i++) {
      const middle = Math.round((x + (i + 0.5) / windows) * hop);
      const power = powers(samples, middle - WINDOW / 2);
      bands.forEach((band, mel) => band.forEach(([bin, weight]) => (energies[mel] += weight * power[bin])));
    }
    return energies.map((energy) => 10 * Math.log10(energy / windows + 1e-12));
  });
}

// Triangles with corners at equal steps of mel: [[bin, weight], ...] of each band.
function melBands() {
  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const corner = (i) => (700 * (10 ** ((i * mel(RATE / 2)) / (MELS + 1) / 2595) - 1) * POINTS) / RATE;
  return Array.from({ length: MELS }, (_, i) => {
    const [low, middle, high] = [corner(i), corner(i + 1), corner(i + 2)];
    const band = [];
    for (let bin = Math.ceil(low); bin <= high && bin <= POINTS / 2; bin++) {
      const weight = Math.min((bin - low) / (middle - low), (high - bin) / (high - middle));
      if (weight > 0) band.push([bin, weight]);
    }
    // The lowest triangles are narrower than a bin.
    return band.length ? band : [[Math.round(middle), 1]];
  });
}

const HANN = Float64Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
const COSINE = Float64Array.from({ length: POINTS / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / POINTS));
const SINE = Float64Array.from({ length: POINTS / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / POINTS));

// |FFT|^2 of a window that begins at `first`; outside of the clip is silence.
function powers(samples, first) {
  const real = new Float64Array(POINTS);
  const imaginary = new Float64Array(POINTS);
  for (let i = 0; i < WINDOW; i++) real[i] = HANN[i] * (samples[first + i] ?? 0);
  fourier(real, imaginary);
  return real.map((value, i) => (value * value + imaginary[i] * imaginary[i]) / WINDOW);
}

// In place, radix 2.
function fourier(real, imaginary) {
  for (let i = 1, j = 0; i < POINTS; i++) {
    let bit = POINTS >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let size = 2; size <= POINTS; size *= 2) {
    const half = size / 2;
    for (let start = 0; start < POINTS; start += size) {
      for (let k = 0; k < half; k++) {
        const [cosine, sine] = [COSINE[(k * POINTS) / size], -SINE[(k * POINTS) / size]];
        const [a, b] = [start + k, start + k + half];
        const re = real[b] * cosine - imaginary[b] * sine;
        const im = real[b] * sine + imaginary[b] * cosine;
        [real[b], imaginary[b]] = [real[a] - re, imaginary[a] - im];
        [real[a], imaginary[a]] = [real[a] + re, imaginary[a] + im];
      }
    }
  }
}
