// A talk: its turns, and the messages that they make.
//
// A turn is {text, clips, answer, state, reason, status, note}: `clips` ids; `state` one of
// "answering", "answered", "stopped", "failed"; `reason` a sentence if it failed, `status` that of
// the response; `note` how long the answer took.

const newTalk = (system) => ({ id: newId(), title: "", changed: Date.now(), system, turns: [] });

const newTurn = (text, clips) => ({
  text, clips: clips.map((clip) => clip.id), answer: "", state: "answering", reason: "", status: 0, note: "",
});

// Whether the model is told of a turn later: one that was not answered would stand there without
// an answer.
const isTold = (turn) => turn.answer !== "" || turn.state === "answered";

function titleOf(turns, clips) {
  const first = turns[0];
  const words = first.text.trim().replace(/\s+/g, " ") || clips.get(first.clips[0])?.name || "";
  return words.length > 60 ? `${words.slice(0, 59)}…` : words;
}

// Messages of OpenAI's API for the answer of the turn `last`. `clips`: Map from id to clip.
async function messagesOf(talk, last, clips) {
  const messages = talk.system.trim() ? [{ role: "system", content: talk.system }] : [];
  const turns = talk.turns.slice(0, talk.turns.indexOf(last)).filter(isTold);
  for (const turn of [...turns, last]) {
    const content = await Promise.all(turn.clips.map((id) => audioPart(clips.get(id))));
    if (turn.text) content.push({ type: "text", text: turn.text });
    messages.push({ role: "user", content });
    if (turn !== last) messages.push({ role: "assistant", content: turn.answer });
  }
  return messages;
}

async function audioPart({ bytes, format }) {
  return { type: "input_audio", input_audio: { data: await base64(bytes), format } };
}

// The clip that a turn's answer is about: its first, or that of the latest turn that has one.
function clipInQuestion(talk, turn) {
  const turns = talk.turns.slice(0, talk.turns.indexOf(turn) + 1);
  return turns.findLast(({ clips }) => clips.length)?.clips[0];
}

// Why the turn was not answered, for people: a clip of it by name instead of by its place.
function reasonOf(error, turn, messages, clips) {
  const { message, place } = error;
  if (!place || !message.startsWith(`${place}: `)) return message;
  const words = message.slice(place.length + 2);
  const at = /^messages\[(\d+)\]\.content\[(\d+)\]/.exec(place);
  const clip = at && Number(at[1]) === messages.length - 1 ? clips.get(turn.clips[at[2]]) : null;
  return clip ? `${clip.name}: ${words}` : words[0].toUpperCase() + words.slice(1);
}
