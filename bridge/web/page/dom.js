// Elements. Text only ever becomes text: nothing here, or anywhere on this page, makes markup of a string.

/** Make an element. `props`: `text`, `on` (listeners by event), `data` (data-*), and attributes; null leaves one out. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Change the text of a node only when it is another one: a selection and a screen reader stay where they are. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const button = (text, click, props = {}) => el("button", { type: "button", text, on: { click }, ...props });

export const cell = (label, props = {}, ...children) => el("td", { role: "cell", data: { label }, ...props }, ...children);

const kept = new WeakMap();

/** Make the children of `parent` (after `skip` of them) one row per item: `make(item)` gives `{node, update(item)}`. */
export function rows(parent, items, keyOf, make, skip = 0) {
  const old = kept.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    now.set(key, old.get(key) ?? make(item));
    now.get(key).update(item);
  }
  for (const [key, row] of old) if (!now.has(key)) row.node.remove();
  let at = parent.children[skip] ?? null;
  for (const row of now.values()) {
    if (row.node === at) at = at.nextElementSibling;
    else parent.insertBefore(row.node, at);
  }
  kept.set(parent, now);
}

/** A word with a sign of its own per state, so that colour is not all that tells them apart. */
export function badge() {
  const node = el("span", { class: "badge" });
  return {
    node,
    set(state, title = "") {
      say(node, state);
      node.dataset.state = state;
      if (node.title !== title) node.title = title;
    },
  };
}

/** Say something for a while, to eyes and to screen readers. */
export function tell(text, wrong = false) {
  const said = byId("said");
  const line = el("p", { text, data: { wrong } });
  said.append(line);
  while (said.children.length > 4) said.firstElementChild.remove();
  setTimeout(() => line.remove(), 8000);
}

/** Ask before something that cannot be taken back. */
export function confirm(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.onclose = null;
      dialog.close();
      resolve(value);
    };
    byId("confirm-yes").onclick = answer(true);
    byId("confirm-no").onclick = answer(false);
    dialog.onclose = answer(false);
    dialog.showModal();
  });
}
