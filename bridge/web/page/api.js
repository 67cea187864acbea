// Requests to the bridge. The token lives in this module's memory: never in storage, never in a URL.

import { byId } from "./dom.js";

let token = null;
let asking = null;

/** A refusal of the bridge, in its own words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** fetch, with the token; asks for one when the bridge wants it. */
export async function request(path, options = {}) {
  for (;;) {
    const used = token;
    const headers = { ...options.headers };
    if (used !== null) headers.Authorization = `Bearer ${used}`;
    const response = await fetch(new URL(path, document.baseURI), {
      ...options, headers, cache: "no-store", credentials: "omit", redirect: "error",
    });
    if (response.status !== 401) return response;
    await response.body?.cancel();
    if (used === token) {
      asking ??= askForToken(used !== null).finally(() => (asking = null));
      await asking;
    }
  }
}

/** The answer when it is one. Throws {@link Refused}. */
export async function ask(path, options = {}) {
  const response = await request(path, options);
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function refusal(response) {
  const text = await response.text();
  try {
    return new Refused(response.status, JSON.parse(text).error.message);
  } catch {
    return new Refused(response.status, `HTTP ${response.status}`);
  }
}

function askForToken(isWrong) {
  const dialog = byId("ask-token");
  const field = byId("token");
  byId("ask-token-why").textContent = isWrong ? "That one is not known, or has expired." : "";
  field.value = "";
  const show = () => {
    if (!dialog.open) dialog.showModal();
    field.focus();
  };
  dialog.oncancel = (event) => event.preventDefault();
  dialog.onclose = show; // a browser lets nobody refuse the second Escape
  show();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const given = field.value.trim();
      if (!/^[\x21-\x7e]+$/.test(given)) {
        byId("ask-token-why").textContent = "A token has letters, digits and signs only.";
        return;
      }
      token = given;
      field.value = "";
      dialog.onclose = null;
      dialog.close();
      resolve();
    };
  });
}

/** The events of a stream: `{id, event, data}`. Throws when it breaks. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let parts = [];
    let event = { id: null, event: "message", data: [] };
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (!value.includes("\n")) {
        parts.push(value); // a long line comes in pieces, which are joined once
        continue;
      }
      const lines = (parts.join("") + value).split("\n");
      parts = [lines.pop()];
      for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
        if (line !== "") {
          field(event, line);
          continue;
        }
        if (event.data.length || event.id !== null) yield { ...event, data: event.data.join("\n") };
        event = { id: null, event: "message", data: [] };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function field(event, line) {
  const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  if (name === "data") event.data.push(value);
  else if (name === "id" || name === "event") event[name] = value;
}
