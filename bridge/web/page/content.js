// What a tool has answered, as elements. Everything a server says is text; images are the only thing that is not.

import { el } from "./dom.js";

/** Characters of one text that are shown. */
const MOST = 100_000;
const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"]);

/** Anything as text. */
export function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
}

/** The elements of a result. */
export function content(result) {
  const blocks = Array.isArray(result.content) ? result.content.map(block) : [];
  if (result.structuredContent !== undefined) blocks.push(details("structured content", shown(text(result.structuredContent))));
  if (blocks.length === 0) blocks.push(shown(text(result)));
  return blocks;
}

function block(item) {
  if (item?.type === "text") return shown(text(item.text));
  if (item?.type === "image" && IMAGES.has(item.mimeType) && /^[A-Za-z0-9+/=\s]+$/.test(item.data ?? "")) {
    return el("img", { src: `data:${item.mimeType};base64,${item.data}`, alt: "an image that the tool made" });
  }
  if (item?.type === "resource" && typeof item.resource?.text === "string") {
    return details(`resource ${text(item.resource.uri)}`, shown(item.resource.text));
  }
  const { type, uri, mimeType, name } = item ?? {};
  const known = [type, name, uri, mimeType].filter((part) => typeof part === "string").join(" ");
  return details(known || "content", shown(text(item)));
}

function shown(whole) {
  const cut = whole.length > MOST ? `${whole.slice(0, MOST)}\n… ${whole.length - MOST} more characters` : whole;
  return el("pre", { text: cut, tabindex: "0" });
}

function details(title, node) {
  return el("details", {}, el("summary", { text: title }), node);
}
