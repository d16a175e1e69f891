// Where talks live: this browser's IndexedDB. A talk is {id, title, changed, system, turns}, its
// clips lie beside it.

const database = new Promise((resolve, reject) => {
  const request = indexedDB.open("qwen-audio-talks", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("talks", { keyPath: "id" });
    request.result.createObjectStore("clips", { keyPath: "id" }).createIndex("talk", "talk");
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
database.catch(() => {}); // whoever asks hears of it

// Runs `work(talks, clips)`, which returns a request or nothing; all of it is done, or none.
async function stored(mode, work) {
  const transaction = (await database).transaction(["talks", "clips"], mode);
  const request = work(transaction.objectStore("talks"), transaction.objectStore("clips"));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

const store = {
  talks: () => stored("readonly", (talks) => talks.getAll()),
  talk: (id) => stored("readonly", (talks) => talks.get(id)),
  clips: (id) => stored("readonly", (_, clips) => clips.index("talk").getAll(id)),

  // `added`: clips that came with it; `gone`: ids of clips that left it.
  save: (talk, added = [], gone = []) => stored("readwrite", (talks, clips) => {
    talks.put(talk);
    added.forEach((clip) => clips.put({ ...clip, talk: talk.id }));
    gone.forEach((id) => clips.delete(id));
  }),

  delete: (id) => stored("readwrite", (talks, clips) => {
    talks.delete(id);
    clips.index("talk").openKeyCursor(id).onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      clips.delete(cursor.primaryKey);
      cursor.continue();
    };
  }),
};
