// The microphone: samples by an AudioWorklet, at 16 kHz when it is done.

const WORKLET = `
registerProcessor("tap", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = [];
    this.running = true;
    this.port.onmessage = () => { this.running = false; };
  }
  process([input]) {
    if (input.length) this.held.push(input[0].slice());
    if (this.held.length >= 8 || !this.running) {
      this.port.postMessage(this.held);
      this.held = [];
    }
    if (!this.running) this.port.postMessage(null);
    return this.running;
  }
});`;

// Why there is no microphone, in a sentence; "" if there may be one.
function withoutMicrophone() {
  if (!window.isSecureContext) {
    return "Browsers give a microphone only to pages from localhost or over https, and this one came "
      + `over http from ${location.hostname}. Open it as http://localhost:${location.port || 80} `
      + "(from afar with ssh -L), or put https in front of the server.";
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return "This browser has no microphone for pages.";
  }
  return "";
}

const REFUSALS = {
  NotAllowedError: "The microphone was not allowed. Allow it in the browser's settings of this page, then try again.",
  NotFoundError: "No microphone was found. Plug one in, then try again.",
  NotReadableError: "The microphone is in use by something else, or the system does not hand it over.",
};

class Recorder {
  // `onlevel` hears of each 0.02 s or so how loud they were, 0 to 1, and how long it all lasts.
  constructor(onlevel) {
    this.onlevel = onlevel;
    this.blocks = [];
    this.length = 0;
  }

  // Throws an Error with a sentence.
  async start() {
    const sound = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: sound });
      await this.listen();
    } catch (error) {
      await this.close();
      throw new Error(REFUSALS[error.name] ?? `The microphone does not start: ${error.message}.`, { cause: error });
    }
  }

  async listen() {
    this.context = new AudioContext();
    const address = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
    await this.context.audioWorklet.addModule(address);
    URL.revokeObjectURL(address);
    this.tap = new AudioWorkletNode(this.context, "tap", { channelCount: 1, channelCountMode: "explicit" });
    this.done = new Promise((resolve) => {
      this.tap.port.onmessage = ({ data }) => (data ? this.heard(data) : resolve());
    });
    this.context.createMediaStreamSource(this.stream).connect(this.tap);
    // It gives silence; without a way to the speakers some browsers do not run it.
    this.tap.connect(this.context.destination);
    await this.context.resume();
  }

  // Gives the microphone back.
  async close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    await this.context?.close();
  }

  heard(blocks) {
    let [sum, count] = [0, 0];
    for (const block of blocks) {
      this.blocks.push(block);
      this.length += block.length;
      count += block.length;
      for (const value of block) sum += value * value;
    }
    if (!count) return;
    const decibels = 10 * Math.log10(sum / count + 1e-12);
    this.onlevel(Math.max(0, Math.min(1, 1 + decibels / 60)), this.length / this.context.sampleRate);
  }

  // Ends it; Float32Array at 16 kHz.
  async stop() {
    this.tap.port.postMessage("stop");
    await this.done;
    const all = new Float32Array(this.length);
    let place = 0;
    for (const block of this.blocks) {
      all.set(block, place);
      place += block.length;
    }
    const { sampleRate } = this.context;
    await this.close();
    return resampled(all, sampleRate);
  }
}
