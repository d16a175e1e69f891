// The list of talks beside the conversation; on a phone it slides over it.

class TalksList {
  constructor({ onopen, ondelete }) {
    Object.assign(this, { onopen, ondelete });
    found("open-talks").onclick = () => this.slide(true);
    found("close-talks").onclick = () => this.slide(false);
    found("curtain").onclick = () => this.slide(false);
  }

  get isOver() {
    return document.body.classList.contains("talks-over");
  }

  slide(over) {
    if (this.isOver === over) return;
    document.body.classList.toggle("talks-over", over);
    found("curtain").hidden = !over;
    found("open-talks").setAttribute("aria-expanded", over);
    found(over ? "close-talks" : "open-talks").focus();
  }

  // The latest first.
  show(talks, current) {
    const sorted = [...talks].sort((a, b) => b.changed - a.changed);
    found("talks-list").replaceChildren(...sorted.map((talk) => this.entry(talk, talk.id === current)));
  }

  entry(talk, isCurrent) {
    const when = new Date(talk.changed);
    const today = when.toDateString() === new Date().toDateString();
    const words = when.toLocaleString([], today ? { timeStyle: "short" } : { dateStyle: "medium" });
    const open = made("button", { type: "button", className: "talk", onclick: () => this.onopen(talk.id) },
      made("span", { className: "title", dir: "auto" }, talk.title), made("span", { className: "dim" }, words));
    if (isCurrent) open.setAttribute("aria-current", "true");
    return made("li", {}, open,
      button("trash", "", () => this.sure(talk), { name: `Delete the talk ${talk.title}` }));
  }

  sure(talk) {
    const dialog = found("sure");
    found("sure-what").textContent =
      `“${talk.title}” and its clips are deleted from this browser. They lie nowhere else.`;
    dialog.returnValue = "no";
    dialog.onclose = () => dialog.returnValue === "yes" && this.ondelete(talk.id);
    dialog.showModal();
  }
}
