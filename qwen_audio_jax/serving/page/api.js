// The server's API, which is OpenAI's.

// `place`: what of the request it is about, such as `messages[2].content[0]`; "" if not said.
class ApiError extends Error {
  constructor(sentence, status = 0, place = "") {
    super(sentence);
    Object.assign(this, { status, place });
  }
}

const STATUSES = {
  401: "The server asks for an API key.",
  403: "The server does not let this page in.",
  404: "The server does not know this model.",
  413: "The turn is too large for the server.",
  429: "The server is busy. Try again in a moment.",
  503: "The server is about to stop, or not ready yet.",
};

async function asked(path, key, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

// What the server says is wrong, or, where it says nothing that can be read, what its status means.
async function refusal(response) {
  const { status } = response;
  try {
    const { error } = await response.json();
    const [sentence, place] = [error?.message, error?.param ?? ""];
    if (typeof sentence === "string" && sentence) return new ApiError(sentence, status, place);
  } catch {
    // Something in between, such as a proxy, answers with a page of its own.
  }
  return new ApiError(STATUSES[status] ?? `The server answered ${status} without saying why.`, status);
}

async function servedModels(key) {
  return (await (await asked("v1/models", key)).json()).data;
}

// Streams an answer: objects as the server sends them, `choices` or `usage` in them.
// Throws an ApiError if the server says no, or if the stream breaks off.
async function* completion(body, key, signal) {
  const response = await asked("v1/chat/completions", key, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message ?? "The answer failed.");
    yield chunk;
  }
  throw new ApiError("The connection was cut before the answer ended.");
}

// The data of server-sent events, as they come.
async function* events(stream) {
  let rest = "";
  try {
    for await (const text of pieces(stream.pipeThrough(new TextDecoderStream()))) {
      const lines = (rest + text).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The connection was cut before the answer ended.");
  }
}

// Not every browser lets one loop over a stream.
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.releaseLock();
  }
}
