// Where a turn is put together: text, files, recordings.

class Composer {
  // `onsend({text, clips})` is called for a turn that holds something, `isBusy()` asked before.
  constructor({ onsend, isBusy }) {
    Object.assign(this, { onsend, isBusy });
    this.players = [];
    this.reading = Promise.resolve();
    this.recorder = null; // while it runs
    this.message = found("message");
    this.form = found("composer");
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.send();
    };
    this.message.onkeydown = (event) => {
      // While a character is being composed, Enter chooses it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    };
    found("attach").onclick = () => found("files").click();
    found("files").onchange = ({ target }) => {
      this.add([...target.files]);
      target.value = "";
    };
    document.addEventListener("paste", ({ clipboardData }) => this.add([...clipboardData.files]));
    this.takeDrops();
    this.offerMicrophone();
  }

  takeDrops() {
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    let depth = 0; // elements entered and not left
    const over = (change) => (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      depth = Math.max(0, depth + change);
      found("drop").hidden = !depth;
    };
    document.addEventListener("dragenter", over(1));
    document.addEventListener("dragover", over(0));
    document.addEventListener("dragleave", over(-1));
    document.addEventListener("drop", (event) => {
      over(-depth)(event);
      if (holdsFiles(event)) this.add([...event.dataTransfer.files]);
    });
  }

  // One after another, so that they stand in the order in which they came.
  add(files) {
    const problems = [];
    for (const file of files) {
      this.reading = this.reading.then(async () => {
        const waiting = made("li", { className: "dim" }, `Reading ${file.name} …`);
        found("clips").append(waiting);
        try {
          this.hold(await clipOfFile(file));
        } catch (error) {
          problems.push(error.message);
          notice(problems.join(" "));
        }
        waiting.remove();
      });
    }
  }

  hold(clip) {
    const remove = () => {
      this.players = this.players.filter((other) => other !== player);
      player.close();
      place.remove();
      tell(`${clip.name} removed.`);
      this.message.focus();
    };
    const player = new Player(clip, clip.name, remove);
    const place = made("li", {}, player.element);
    this.players.push(player);
    found("clips").append(place);
    tell(`${clip.name} added.`);
  }

  // Puts a turn that was taken back before what is here already.
  restore(text, clips) {
    const here = this.players.map((player) => player.clip);
    this.message.value = [text, this.message.value].filter((words) => words.trim()).join("\n");
    this.clear();
    [...clips, ...here].forEach((clip) => this.hold(clip));
    this.message.focus();
  }

  clear() {
    this.players.forEach((player) => player.close());
    this.players = [];
    found("clips").replaceChildren();
  }

  async send() {
    if (this.isBusy()) {
      tell("The model is still answering. Escape stops it.");
      return;
    }
    if (this.recorder) await this.keep();
    await this.reading;
    const text = this.message.value.trim() ? this.message.value : "";
    const clips = this.players.map((player) => player.clip);
    if (!text && !clips.length) {
      tell("Type something, or add a clip.");
      this.message.focus();
      return;
    }
    this.message.value = "";
    this.clear();
    this.onsend({ text, clips });
  }

  offerMicrophone() {
    const reason = withoutMicrophone();
    const record = found("record");
    record.disabled = Boolean(reason);
    found("microphone-note").textContent = reason;
    record.onclick = () => (this.recorder ? this.keep() : this.record());
    found("keep").onclick = () => this.keep();
    found("discard").onclick = () => this.discard();
  }

  async record() {
    if (this.asking) return;
    const draw = levelMeter(found("level"));
    const recorder = new Recorder((level, length) => {
      draw(level);
      found("clock").textContent = seconds(length);
    });
    this.asking = true; // the browser may ask for leave, and wait for that
    try {
      await recorder.start();
      this.recorder = recorder;
    } catch (error) {
      notice(error.message);
      return;
    } finally {
      this.asking = false;
    }
    notice("");
    this.showRecording(true);
    tell("Recording.");
    found("keep").focus();
  }

  // Ends the recording and takes it into the turn.
  async keep() {
    const recorder = this.recorder;
    this.recorder = null;
    if (!recorder) return;
    const samples = await recorder.stop();
    this.showRecording(false);
    const clock = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
    if (samples.length) this.hold(clipOf(samples, `recording ${clock}.wav`));
    else notice("The microphone gave no sound. Record again.");
    this.message.focus();
  }

  async discard() {
    const recorder = this.recorder;
    this.recorder = null;
    await recorder?.stop();
    this.showRecording(false);
    tell("The recording is thrown away.");
    this.message.focus();
  }

  showRecording(is) {
    found("recording").hidden = !is;
    const record = found("record");
    record.classList.toggle("on", is);
    const words = is ? "End the recording" : "Record from the microphone";
    record.setAttribute("aria-label", words);
    record.title = words;
    found("clock").textContent = seconds(0);
  }
}

// Draws the levels of the last while as bars, the newest on the right.
function levelMeter(canvas) {
  const pen = canvas.getContext("2d");
  const [step, width] = [6, 3];
  const levels = Array(canvas.width / step).fill(0);
  return (level) => {
    levels.push(level);
    levels.shift();
    canvas.setAttribute("aria-valuenow", Math.round(100 * level));
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = getComputedStyle(canvas).color;
    levels.forEach((value, i) => {
      const height = Math.max(width, value * canvas.height);
      pen.beginPath();
      pen.roundRect(i * step, (canvas.height - height) / 2, width, height, width / 2);
      pen.fill();
    });
  };
}
