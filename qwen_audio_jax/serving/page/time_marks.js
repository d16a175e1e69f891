// Times in an answer, `<|2.33|>`: each becomes a button that plays its piece of the clip.

const MARK = /<\|(\d{1,2}\.\d\d)\|>/g;
const TAG = /(<\|[^|<>]+\|>)/;
const HALF_A_MARK = /<(\|([\d.]{0,5}\|?)?)?$/;

// Parts of an answer in their order: {text} or {seconds, from, to}; `to` is null for the clip's end.
//
// In timed words a mark ends the word that stands right before it, elsewhere it opens what follows
// (labels.py). In a clip over 30 s, a mark of 30.00 before another adds to that one.
function timedParts(answer, length) {
  const parts = [];
  let [end, windows] = [0, 0];
  const add = (text) => text && parts.push({ text });
  for (const mark of answer.matchAll(MARK)) {
    const text = answer.slice(end, mark.index);
    end = mark.index + mark[0].length;
    add(text);
    const another = MARK_AHEAD.test(answer.slice(end));
    if (mark[1] === "30.00" && another && length > 30.005) windows += 30;
    else {
      parts.push({ seconds: windows + Number(mark[1]) });
      windows = 0;
    }
  }
  add(answer.slice(end));
  parts.forEach((part, i) => "seconds" in part && Object.assign(part, piece(parts, i)));
  return parts;
}

const MARK_AHEAD = /^<\|\d{1,2}\.\d\d\|>/;

// From when until when a mark's piece lasts. Nothing reaches over a `<|delim|>`.
function piece(parts, i) {
  const now = parts[i].seconds;
  const before = firstMark(parts.slice(0, i).reverse());
  const next = firstMark(parts.slice(i + 1));
  const text = parts[i - 1]?.text ?? "";
  const closes = /\S$/.test(text) && !text.includes(DELIMITER);
  if (closes && (before ?? 0) < now) return { from: before ?? 0, to: now };
  if (next > now) return { from: now, to: next };
  if (before < now) return { from: before, to: now };
  return { from: now, to: null };
}

const DELIMITER = "<|delim|>";

function firstMark(parts) {
  return parts.find((part) => "seconds" in part || part.text.includes(DELIMITER))?.seconds;
}

// Shows an answer; `player` is that of the clip that it is about, null without one.
function showAnswer(element, answer, player) {
  const parts = timedParts(answer.replace(HALF_A_MARK, ""), player?.clip.seconds ?? 0);
  element.replaceChildren(...parts.flatMap((part) => {
    // Every second piece is a tag, such as that of silence.
    const marked = (text, i) => (i % 2 ? made("span", { className: "tag" }, text) : text);
    if (part.text) return part.text.split(TAG).map(marked);
    const words = seconds(part.seconds, 2);
    if (!player) return made("span", { className: "moment" }, words);
    const until = part.to === null ? "the end" : seconds(part.to, 2);
    return button("play", words, () => player.play(part.from, part.to),
      { name: `Play from ${seconds(part.from, 2)} to ${until}`, className: "moment" });
  }));
}
