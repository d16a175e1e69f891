// A clip to look at and to listen to.

let playing = null; // one at a time on the page

class Player {
  // `label`: what the clip is called on the page. `onremove`: takes it off the turn, or null.
  constructor(clip, label, onremove = null) {
    this.clip = clip;
    const file = new Blob([clip.bytes], { type: `audio/${clip.format}` });
    this.audio = made("audio", { preload: "metadata", src: URL.createObjectURL(file) });
    this.end = null;
    this.toggle = button("play", "", () => (this.audio.paused ? this.play() : this.pause()),
      { name: `Play ${label}`, className: "round small play" });
    this.label = label;
    const known = clip.seconds !== null;
    this.toggle.disabled = !known;
    this.time = made("span", { className: "time dim" }, known ? seconds(clip.seconds) : clip.format);
    this.element = made("div", { className: "clip", role: "group", "aria-label": label },
      this.toggle,
      known ? this.scrubber() : this.unseen(),
      made("div", { className: "about" },
        made("span", { className: "name", title: clip.name, dir: "auto" }, clip.name),
        this.time,
        onremove && button("close", "", onremove, { name: `Remove ${label}` })),
      this.audio);
    this.audio.onplay = () => this.shown();
    this.audio.onpause = () => this.shown();
    this.audio.onended = () => this.shown();
    this.audio.onerror = () => (this.time.textContent = "cannot be played here");
  }

  // A browser that cannot decode it sends it as it is.
  unseen() {
    const words = "No picture: this browser cannot decode it. The server gets the file as it is.";
    return made("p", { className: "unseen-clip dim" }, words);
  }

  scrubber() {
    const said = `Spectrogram of ${this.label}, ${seconds(this.clip.seconds)}, 0 to 8 kHz`;
    const canvas = made("canvas", { role: "img", "aria-label": said });
    decoded(this.clip.bytes).then((samples) => samples && drawSpectrogram(canvas, samples));
    const scale = { min: 0, max: this.clip.seconds, step: 0.01, value: 0 };
    const name = `Position in ${this.label}, in seconds`;
    this.range = made("input", { type: "range", ...scale, "aria-label": name });
    this.range.oninput = () => {
      this.end = null;
      this.audio.currentTime = Number(this.range.value);
      this.shown();
    };
    this.piece = made("div", { className: "piece", hidden: true });
    return made("div", { className: "picture" }, canvas, this.piece, made("div", { className: "head" }), this.range);
  }

  // Plays all of it from where it stands, or a piece of it, in seconds.
  play(start = null, end = null) {
    if (playing && playing !== this) playing.pause();
    playing = this;
    this.end = end;
    if (start !== null) this.audio.currentTime = start;
    if (this.piece) {
      this.piece.hidden = end === null;
      this.piece.style.setProperty("--from", (start ?? 0) / this.clip.seconds);
      this.piece.style.setProperty("--to", (end ?? 0) / this.clip.seconds);
    }
    this.audio.play().catch((error) => {
      if (error.name !== "AbortError") this.time.textContent = "cannot be played here";
    });
  }

  pause() {
    this.audio.pause();
  }

  shown() {
    const { paused, currentTime } = this.audio;
    if (!paused && this.end !== null && currentTime >= this.end) {
      this.end = null;
      this.pause();
    }
    this.toggle.replaceChildren(picture(this.audio.paused ? "play" : "pause"));
    this.toggle.setAttribute("aria-label", `${this.audio.paused ? "Play" : "Pause"} ${this.label}`);
    if (this.range) {
      this.range.value = currentTime;
      this.element.style.setProperty("--at", currentTime / this.clip.seconds);
      this.element.style.setProperty("--begun", currentTime > 0 ? 1 : 0);
      const heard = currentTime > 0 ? `${currentTime.toFixed(1)} of ` : "";
      this.time.textContent = heard + seconds(this.clip.seconds);
    }
    if (!this.audio.paused) requestAnimationFrame(() => this.shown());
  }

  // What the page no longer shows stops sounding and gives its memory back.
  close() {
    this.pause();
    const address = this.audio.src;
    this.audio.removeAttribute("src");  // else what is still being loaded fails, and is told as an error
    this.audio.load();
    URL.revokeObjectURL(address);
  }
}
