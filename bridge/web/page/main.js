// What the page does: shows each snapshot, and opens panels.

import { Console } from "./console.js";
import { byId, el, rows, say } from "./dom.js";
import { count, seconds } from "./format.js";
import { live } from "./live.js";
import { Logs } from "./logs.js";
import { showServers } from "./servers.js";
import { showSessions } from "./sessions.js";

const KINDS = { console: Console, logs: Logs };

let panel = null;
let opener = null;

function open(kind, server) {
  const from = document.activeElement;
  close();
  opener = from;
  panel = new KINDS[kind](server);
  say(byId("panel-title"), `${kind === "console" ? "Console" : "Logs"} of ${server}`);
  byId("panel-body").replaceChildren(panel.node);
  byId("panel").hidden = false;
  document.body.classList.add("has-panel");
  byId("panel").focus();
}

function close() {
  if (panel === null) return;
  panel.close();
  panel = null;
  byId("panel-body").replaceChildren();
  byId("panel").hidden = true;
  document.body.classList.remove("has-panel");
  if (opener?.isConnected) opener.focus();
}

function showBridge({ bridge }) {
  say(byId("version"), bridge.version);
  const facts = [
    `up ${seconds(bridge.uptime_s)}`,
    count(bridge.servers, "server"),
    count(bridge.children, "process", "processes"),
    bridge.status,
  ];
  list("facts", facts);
  const troubles = bridge.reasons ?? [];
  byId("troubles").hidden = troubles.length === 0;
  list("troubles", troubles);
}

function list(id, texts) {
  const make = () => ({ node: el("li"), update(item) { say(this.node, item.text); } });
  rows(byId(id), texts.map((text, at) => ({ text, at })), (item) => item.at, make);
}

byId("panel-close").addEventListener("click", close);
byId("panel").addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && close());
window.addEventListener("pagehide", close);

live((snapshot) => {
  showBridge(snapshot);
  showServers(snapshot, open);
  showSessions(snapshot);
});
