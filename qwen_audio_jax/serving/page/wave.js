// Clips: what a file or a recording becomes before it is sent.
//
// A clip is {id, name, format, bytes, seconds}: `bytes` an ArrayBuffer in one of the formats that
// the server reads; `seconds` null where this browser cannot decode it.

const RATE = 16000;

// Throws an Error with a sentence if neither this browser nor the server can read the file.
async function clipOfFile(file) {
  const bytes = await file.arrayBuffer();
  const samples = await decoded(bytes);
  const kind = kindOf(bytes);
  if (samples?.length) {
    return clipOf(samples, file.name, isReady(bytes) ? bytes : waveFile(samples));
  }
  if (!samples && kind) {
    return { id: newId(), name: file.name, format: kind, bytes, seconds: null };
  }
  const why = samples || !bytes.byteLength ? "it holds no sound" : "this browser cannot decode it";
  throw new Error(`${file.name} cannot be used: ${why}. Take WAV, FLAC, Ogg or MP3.`);
}

// Samples at 16 kHz.
function clipOf(samples, name, bytes = waveFile(samples)) {
  return { id: newId(), name, format: "wav", bytes, seconds: samples.length / RATE };
}

// Float32Array of one channel at 16 kHz, or null if this browser cannot decode it.
async function decoded(bytes) {
  try {
    // The buffer is taken away by decoding; a context's rate is what it decodes to.
    const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes.slice(0));
    const mix = buffer.getChannelData(0).slice();
    for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
      buffer.getChannelData(channel).forEach((value, i) => (mix[i] += value));
    }
    return mix.map((value) => value / buffer.numberOfChannels);
  } catch {
    return null;
  }
}

// Which of the formats of OpenAI's API a file is, "" if none.
function kindOf(bytes) {
  const head = new Uint8Array(bytes.slice(0, 12));
  const text = String.fromCharCode(...head);
  if (text.startsWith("RIFF") && text.slice(8) === "WAVE") return "wav";
  if (text.startsWith("fLaC")) return "flac";
  if (text.startsWith("OggS")) return "ogg";
  if (text.startsWith("ID3") || (head[0] === 0xff && (head[1] & 0xe6) === 0xe2)) return "mp3";
  return "";
}

// Whether a file is 16-bit mono at 16 kHz already, which is sent untouched.
function isReady(bytes) {
  if (kindOf(bytes) !== "wav" || bytes.byteLength < 44) return false;
  const view = new DataView(bytes);
  const [form, channels, bits] = [view.getUint16(20, true), view.getUint16(22, true), view.getUint16(34, true)];
  const plain = view.getUint32(12) === 0x666d7420 && form === 1;
  return plain && channels === 1 && bits === 16 && view.getUint32(24, true) === RATE;
}

// A WAV file of one channel at 16 kHz: 16 bits, or floats where 16 bits would clip.
function waveFile(samples) {
  let peak = 0;
  for (const value of samples) peak = Math.max(peak, Math.abs(value));
  const floats = peak > 1;
  const width = floats ? 4 : 2;
  const view = new DataView(new ArrayBuffer(44 + width * samples.length));
  const letters = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  letters(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  letters(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, floats ? 3 : 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, RATE * width, true);
  view.setUint16(32, width, true);
  view.setUint16(34, 8 * width, true);
  letters(36, "data");
  view.setUint32(40, width * samples.length, true);
  samples.forEach((value, i) => {
    if (floats) view.setFloat32(44 + 4 * i, value, true);
    else view.setInt16(44 + 2 * i, Math.min(32767, Math.round(32768 * value)), true);
  });
  return view.buffer;
}

function base64(bytes) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([bytes]));
  });
}
