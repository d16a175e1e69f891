// Makes elements. Text only ever becomes text: nothing in these scripts parses markup.

const found = (id) => document.getElementById(id);

// A property that the element has is set as such, any other as an attribute; children are
// elements or strings, and what is null is left out.
function made(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// A button with a picture, and with words or a name for those who do not see it.
function button(icon, words, onclick, { name = "", className = "quiet" } = {}) {
  const element = made("button", { type: "button", className, onclick });
  if (icon) element.append(picture(icon));
  if (words) element.append(words);
  if (name) {
    element.setAttribute("aria-label", name);
    element.title = name;
  }
  return element;
}

// randomUUID is there only over https and on localhost.
const newId = () => [...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(36)).join("");

const seconds = (value, digits = 1) => `${value.toFixed(digits)} s`;

// Told to those who listen to the page instead of looking at it.
function tell(sentence) {
  found("status").textContent = sentence;
}

// Stands above the composer until the next one, or until its cause is gone; "" clears it.
function notice(sentence, ...actions) {
  const place = found("notice");
  place.hidden = !sentence;
  place.replaceChildren(made("span", {}, sentence), ...actions);
  if (sentence) {
    place.append(button("close", "", () => notice(""), { name: "Close this notice" }));
  }
}
