// The page: one talk at a time, and one answer at a time.

class TalkPage {
  constructor() {
    this.talk = newTalk("");
    this.clips = new Map();
    this.players = new Map();
    this.views = new Map();
    this.models = [];
    this.answering = null; // an AbortController while the model answers
    this.ended = Promise.resolve(); // when it is over and kept
    this.opened = Promise.resolve(); // when the talk that was asked for last is shown
    this.settings = new Settings((keyChanged) => this.settled(keyChanged));
    this.composer = new Composer({ onsend: (said) => this.send(said), isBusy: () => this.answering !== null });
    this.list = new TalksList({ onopen: (id) => this.goTo(id), ondelete: (id) => this.delete(id) });
    found("new-talk").onclick = () => this.begin();
    found("stop").onclick = () => this.stop();
    found("model").onchange = ({ target }) => {
      remember("localStorage", "model", target.value);
      this.warn();
    };
    document.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && this.escape());
    this.keepTheEnd();
    window.addEventListener("hashchange", () => this.open(location.hash.slice(1)));
  }

  async start() {
    await Promise.all([this.open(location.hash.slice(1)), this.askModels()]);
  }

  // An open dialog closes by itself.
  escape() {
    if (document.querySelector("dialog[open]")) return;
    if (this.list.isOver) this.list.slide(false);
    else if (this.composer.recorder) this.composer.keep();
    else this.stop();
  }

  async askModels() {
    try {
      this.models = await servedModels(this.settings.key);
      const select = found("model");
      select.replaceChildren(...this.models.map(({ id }) => made("option", { value: id }, id)));
      const before = remembered("localStorage", "model");
      if (this.models.some(({ id }) => id === before)) select.value = before;
      this.warn();
      notice("");
    } catch (error) {
      if (error.status === 401) this.settings.open(error.message);
      else notice(error.message, button("again", "Try again", () => this.askModels(), { className: "small" }));
    }
  }

  // A model that never learned to converse does not know when to end.
  warn() {
    const chosen = this.models.find(({ id }) => id === found("model").value);
    found("untuned").hidden = chosen?.tuned !== false;
  }

  // The dialog was closed.
  async settled(keyChanged) {
    this.talk.system = this.settings.system;
    this.save();
    if (!keyChanged) return;
    await this.askModels();
    const last = this.talk.turns.at(-1);
    if (last?.status === 401) this.answer(last);
  }

  // Talks -----------------------------------------------------------------------------------

  goTo(id) {
    this.list.slide(false);
    if (location.hash.slice(1) !== id) location.hash = id;
  }

  begin() {
    this.list.slide(false);
    if (location.hash) location.hash = "";
    else this.open("");
    found("message").focus();
  }

  // Shows a talk of this browser, or a new one where there is none of this name.
  open(id) {
    this.opened = this.opened.then(() => this.load(id));
    return this.opened;
  }

  async load(id) {
    if (id && id === this.talk.id) return;
    await this.stop();
    let [talk, clips] = [undefined, []];
    try {
      if (id) [talk, clips] = await Promise.all([store.talk(id), store.clips(id)]);
    } catch (error) {
      this.storeFailed(error);
    }
    this.talk = talk ?? newTalk(this.settings.system);
    this.settings.system = this.talk.system;
    for (const turn of this.talk.turns.filter(({ state }) => state === "answering")) {
      Object.assign(turn, { state: "failed", reason: "The page was closed before the answer ended." });
    }
    this.players.forEach((player) => player.close());
    this.clips = new Map(clips.map((clip) => [clip.id, clip]));
    this.players.clear();
    this.views.clear();
    found("turns").replaceChildren();
    this.talk.turns.forEach((turn) => this.add(turn));
    this.show();
    this.showList();
    this.toTheEnd();
  }

  async delete(id) {
    if (id === this.talk.id) await this.stop();
    try {
      await store.delete(id);
    } catch (error) {
      this.storeFailed(error);
    }
    if (id === this.talk.id) this.begin();
    else this.showList();
    tell("The talk is deleted.");
    found("new-talk").focus();
  }

  async save(added = [], gone = []) {
    // A talk in which nothing was said is none yet.
    if (!this.talk.turns.length && !gone.length) return;
    this.talk.title = this.talk.turns.length ? titleOf(this.talk.turns, this.clips) : this.talk.title;
    this.talk.changed = Date.now();
    try {
      await store.save(this.talk, added, gone);
    } catch (error) {
      this.storeFailed(error);
    }
    await this.showList();
  }

  async showList() {
    const talks = await store.talks().catch(() => []);
    this.list.show(talks, this.talk.id);
  }

  storeFailed(error) {
    const why = error?.message ?? "it gives no storage";
    notice(`This browser does not keep the talk: ${why}. It lasts until the page is closed.`);
  }

  // Turns -----------------------------------------------------------------------------------

  add(turn) {
    const number = this.talk.turns.indexOf(turn) + 1;
    const players = turn.clips.map((id) => {
      const player = new Player(this.clips.get(id), `clip ${this.players.size + 1}`);
      this.players.set(id, player);
      return player;
    });
    const view = new TurnView(turn, number, {
      players,
      player: this.players.get(clipInQuestion(this.talk, turn)) ?? null,
      onagain: () => this.answer(turn),
      onundo: () => this.undo(),
    });
    this.views.set(turn, view);
    found("turns").append(view.element);
  }

  show() {
    const { turns } = this.talk;
    found("welcome").hidden = turns.length > 0;
    this.views.forEach((view, turn) => view.show(turn === turns.at(-1)));
    found("send").hidden = this.answering !== null;
    found("stop").hidden = this.answering === null;
  }

  async send({ text, clips }) {
    await this.opened;
    const turn = newTurn(text, clips);
    clips.forEach((clip) => this.clips.set(clip.id, clip));
    this.talk.turns.push(turn);
    this.add(turn);
    this.toTheEnd();
    const saved = this.save(clips);
    // So that it is found again after a reload; without a step in the browser's history.
    history.replaceState(null, "", `#${this.talk.id}`);
    await Promise.all([saved, this.answer(turn)]);
  }

  // Takes the last turn back, into the composer.
  undo() {
    const turn = this.talk.turns.pop();
    const clips = turn.clips.map((id) => this.clips.get(id));
    this.views.get(turn).element.remove();
    this.views.delete(turn);
    for (const id of turn.clips) {
      this.players.get(id).close();
      this.players.delete(id);
      this.clips.delete(id);
    }
    this.show();
    if (this.talk.turns.length) this.save([], turn.clips);
    else store.delete(this.talk.id).catch(() => {}).then(() => this.showList());
    this.composer.restore(turn.text, clips);
    tell("The turn is taken back.");
  }

  stop() {
    this.answering?.abort();
    return this.ended;
  }

  answer(turn) {
    if (!this.answering) this.ended = this.answered(turn);
    return this.ended;
  }

  async answered(turn) {
    const control = (this.answering = new AbortController());
    const before = { answer: turn.answer, state: turn.state, note: turn.note };
    Object.assign(turn, { answer: "", state: "answering", reason: "", status: 0, note: "" });
    notice("");
    tell("The model answers.");
    this.show();
    found("message").focus();
    const began = performance.now();
    const wait = setInterval(() => this.views.get(turn).showWait((performance.now() - began) / 1000), 1000);
    const messages = await messagesOf(this.talk, turn, this.clips);
    try {
      if (!found("model").value) await this.askModels();
      await this.receive(turn, messages, control.signal);
      turn.state = "answered";
    } catch (error) {
      const reason = reasonOf(error, turn, messages, this.clips);
      if (control.signal.aborted) turn.state = "stopped";
      else Object.assign(turn, { state: "failed", reason, status: error.status ?? 0 });
      // Who asked again and got nothing keeps what there was.
      if (!turn.answer && before.answer) Object.assign(turn, before);
    }
    clearInterval(wait);
    this.answering = null;
    this.show();
    tell(turn.reason || `The model: ${turn.answer}`);
    if (turn.status === 401) this.settings.open(turn.reason);
    await this.save();
  }

  async receive(turn, messages, signal) {
    const began = performance.now();
    let [first, last, kept, tokens, finish] = [0, 0, -Infinity, 0, ""];
    // The key lets the server keep what it has heard of this talk for its next turn.
    const talk = { model: found("model").value, messages, prompt_cache_key: this.talk.id };
    const body = { ...talk, ...this.settings.sampling() };
    for await (const { choices, usage } of completion(body, this.settings.key, signal)) {
      const choice = choices?.[0];
      if (choice?.delta?.content) {
        last = performance.now();
        first ||= last;
        if (last - kept > 1000) {
          kept = last;
          this.save(); // a page that is closed in the middle keeps what came
        }
        turn.answer += choice.delta.content;
        this.views.get(turn).show(true);
      }
      finish = choice?.finish_reason ?? finish;
      tokens = usage?.completion_tokens ?? tokens;
    }
    turn.note = remarks({ finish, tokens, wait: first - began, rest: last - first });
  }

  // Who looks at the talk's end goes on looking there, as it grows and as its room shrinks.
  keepTheEnd() {
    const scroll = found("scroll");
    let [atEnd, height, room] = [true, 0, 0];
    scroll.onscroll = () => {
      // What moves because sizes changed was not moved by the reader.
      if (scroll.scrollHeight !== height || scroll.clientHeight !== room) return;
      atEnd = height - scroll.scrollTop - room < 60;
    };
    const sizes = new ResizeObserver(() => {
      [height, room] = [scroll.scrollHeight, scroll.clientHeight];
      if (atEnd) this.toTheEnd();
    });
    sizes.observe(scroll);
    sizes.observe(scroll.firstElementChild);
  }

  toTheEnd() {
    found("scroll").scrollTop = found("scroll").scrollHeight;
  }
}

function remarks({ finish, tokens, wait, rest }) {
  const parts = finish === "length" ? ["Cut at the most tokens it may have"] : [];
  if (tokens) parts.push(`${tokens} token${tokens === 1 ? "" : "s"}`);
  if (wait > 0) parts.push(`first after ${seconds(wait / 1000, 2)}`);
  // Of an answer that came at once it would say nothing.
  if (rest > 250) parts.push(`${((1000 * (tokens - 1)) / rest).toFixed(0)} tokens/s`);
  return parts.join(" · ");
}

new TalkPage().start();
