// Turns as they are shown.

class TurnView {
  // `players`: of the turn's clips. `player`: of the clip that times are of, or null.
  // `onagain`, `onundo`: offered on the last turn.
  constructor(turn, number, { players, player, onagain, onundo }) {
    Object.assign(this, { turn, player });
    this.answer = made("p", { className: "answer", dir: "auto" });
    this.problem = made("p", { className: "wrong" });
    this.note = made("span", { className: "dim note" });
    this.again = button("again", "Again", onagain, { className: "small" });
    this.undo = button("undo", "Undo", onundo, { className: "small" });
    this.undo.title = "Take this turn back, to change it";
    this.actions = made("span", { className: "actions" }, this.again, this.undo);
    this.element = made("article", { className: "turn", "aria-label": `Turn ${number}` },
      made("div", { className: "user" }, made("h3", { className: "unseen" }, "You"),
        ...players.map((one) => one.element),
        turn.text ? made("p", { className: "said", dir: "auto" }, turn.text) : null),
      made("div", { className: "model" }, made("h3", { className: "unseen" }, "Model"),
        this.answer, this.problem, made("div", { className: "below" }, this.note, this.actions)));
    this.show(false);
  }

  show(isLast) {
    const { turn } = this;
    const answering = turn.state === "answering";
    showAnswer(this.answer, turn.answer, this.player);
    this.answer.classList.toggle("waiting", answering);
    this.answer.hidden = !turn.answer && !answering;
    this.element.setAttribute("aria-busy", answering);
    this.problem.textContent = turn.reason;
    this.problem.hidden = !turn.reason;
    this.note.textContent = this.remark(isLast);
    this.actions.hidden = answering || !isLast;
    this.again.lastChild.data = turn.state === "failed" ? "Try again" : "Again";
  }

  // Until the first words come; a model that has just been loaded takes a while.
  showWait(length) {
    this.note.textContent = this.turn.answer || length < 2 ? "" : `Waiting for the first words: ${length.toFixed(0)} s`;
  }

  remark(isLast) {
    const { turn } = this;
    if (turn.state === "answering") return "";
    if (!isTold(turn)) {
      const words = turn.state === "stopped" ? "Stopped before the first word." : "";
      return isLast ? words : `${words} Not answered, so the model is not told of this turn.`.trim();
    }
    if (turn.state === "answered" && !turn.answer) return "The model answered nothing.";
    return [turn.state === "stopped" ? "Stopped" : "", turn.note].filter(Boolean).join(" · ");
  }
}
