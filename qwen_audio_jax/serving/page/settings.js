// How the model is asked: in the dialog, and in localStorage for the next time.

const DEFAULTS = { temperature: 0.7, top_p: 0.5, max_tokens: "", seed: "" };
const THEMES = ["auto", "light", "dark"];

// Where a browser lets nothing be stored, the page does without.
function remembered(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

function remember(storage, name, value) {
  try {
    window[storage].setItem(name, value);
  } catch {
    // It then lasts as long as the page.
  }
}

class Settings {
  // `onclose(key changed)` is called when the dialog is closed.
  constructor(onclose) {
    this.dialog = found("settings");
    this.form = this.dialog.querySelector("form");
    this.values = { ...DEFAULTS, ...JSON.parse(remembered("localStorage", "settings") ?? "{}") };
    this.key = remembered("sessionStorage", "key") ?? "";
    this.system = remembered("localStorage", "system") ?? "";
    this.onclose = onclose;
    found("open-settings").onclick = () => this.open();
    found("defaults").onclick = () => this.fill(DEFAULTS);
    this.dialog.onclose = () => this.closed();
    found("theme").onclick = () => this.show(THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length]);
    this.show(remembered("localStorage", "theme") ?? "auto");
  }

  // `problem`: a sentence, such as that a key is missing; then the cursor stands at the key.
  open(problem = "") {
    this.fill(this.values);
    this.form.elements.system.value = this.system;
    this.form.elements.key.value = this.key;
    found("settings-problem").textContent = problem;
    if (problem || this.key) found("key-field").hidden = false;
    if (!this.dialog.open) this.dialog.showModal();
    if (problem) this.form.elements.key.focus();
  }

  fill(values) {
    for (const name of Object.keys(DEFAULTS)) this.form.elements[name].value = values[name];
  }

  // What is in order is taken; a number that is none stays as it was.
  closed() {
    const { elements } = this.form;
    for (const name of Object.keys(DEFAULTS)) {
      const field = elements[name];
      if (field.validity.valid) this.values[name] = field.value === "" ? "" : Number(field.value);
    }
    this.system = elements.system.value;
    const changed = this.key !== elements.key.value.trim();
    this.key = elements.key.value.trim();
    remember("localStorage", "settings", JSON.stringify(this.values));
    remember("localStorage", "system", this.system);
    remember("sessionStorage", "key", this.key);
    this.onclose(changed);
  }

  // The part of a request that says how tokens are chosen.
  sampling() {
    return Object.fromEntries(Object.entries(this.values).filter(([, value]) => value !== ""));
  }

  show(theme) {
    this.theme = THEMES.includes(theme) ? theme : "auto";
    document.documentElement.dataset.theme = this.theme;
    remember("localStorage", "theme", this.theme);
    const words = { auto: "as the system", light: "light", dark: "dark" }[this.theme];
    const switching = found("theme");
    switching.replaceChildren(picture(this.theme));
    switching.setAttribute("aria-label", `Colours: ${words}. Switch`);
    switching.title = `Colours: ${words}`;
  }
}
