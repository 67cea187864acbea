// Servers, and under each the processes that run for it.

import { ask } from "./api.js";
import { badge, button, cell, confirm, el, rows, say, tell } from "./dom.js";
import { bytes, count, latency, percent, seconds } from "./format.js";
import { Traffic, sparkline } from "./traffic.js";

/** So many processes of a server are shown without a click: few, where each takes half a screen. */
const SHOWN = matchMedia("(max-width: 760px)").matches ? 0 : 4;

const seen = new Map(); // server id to its last state, to say what has changed

/** Show a snapshot. `open(kind, server)` opens a panel. */
export function showServers(snapshot, open) {
  const children = Map.groupBy(snapshot.children, (child) => child.server);
  const listed = new Set(snapshot.servers.map((server) => server.id));
  // A server that was taken out of the configuration is listed for as long as its processes take to end.
  const leaving = [...children.keys()].filter((id) => !listed.has(id)).map((id) => ({ id, state: "stopping" }));
  const found = [...snapshot.servers, ...leaving].map((server) => ({ ...server, processes: children.get(server.id) ?? [] }));
  const table = document.querySelector("#servers table");
  const make = ({ server }) => serverRows(server.id, open);
  rows(table, found.map((server) => ({ server, snapshot })), ({ server }) => `${server.id} ${server.state === "invalid"}`, make, 1);
  for (const { id, state, last_error: error } of found) {
    const before = seen.get(id);
    if (before !== undefined && before !== state) tell(`${id} is ${state}${error && state !== "running" ? `: ${error}` : ""}`);
    seen.set(id, state);
  }
}

function serverRows(id, open) {
  const state = badge();
  const spark = sparkline();
  const traffic = new Traffic();
  const note = el("span", { class: "quiet note" });
  const fold = el("button", { type: "button", class: "fold", "aria-expanded": "true" });
  const cells = { latency: numeric("Latency"), cpu: numeric("CPU"), memory: numeric("Memory"), sessions: numeric("Sessions") };
  const actions = serverActions(id, open);
  const node = el(
    "tbody",
    { role: "rowgroup", data: { server: id } },
    el(
      "tr",
      { role: "row", class: "server" },
      el("th", { scope: "row", role: "rowheader" }, el("span", { class: "name", text: id }), fold, note),
      cell("State", {}, state.node),
      cell("Calls per second", { class: "traffic" }, ...spark.nodes),
      ...Object.values(cells),
      cell("Actions", { class: "actions" }, ...actions.nodes),
    ),
  );
  let folded = null;
  fold.onclick = () => {
    folded = fold.getAttribute("aria-expanded") === "true";
    apply();
  };
  function apply() {
    fold.setAttribute("aria-expanded", String(!folded));
    node.classList.toggle("folded", folded);
  }
  return {
    node,
    update({ server, snapshot }) {
      const processes = server.processes;
      traffic.add(snapshot.at, server);
      state.set(server.state, server.last_error ?? server.error ?? "");
      spark.set(traffic);
      fold.hidden = processes.length === 0;
      say(fold, count(processes.length, "process", "processes"));
      folded = folded ?? (processes.length > SHOWN || null);
      apply();
      say(note, noteOf(server));
      say(cells.latency, latency(traffic.latency));
      say(cells.cpu, percent(sum(processes, "cpu_percent")));
      say(cells.memory, bytes(sum(processes, "resident_bytes")));
      say(cells.sessions, String(server.sessions ?? 0));
      actions.update(server, snapshot.admin);
      const found = processes.map((child, place) => ({ child, at: snapshot.at, key: child.pid ?? `no process ${place}` }));
      rows(node, found, ({ key }) => key, childRow, 1);
    },
  };
}

function noteOf(server) {
  const notes = [];
  if (server.error) notes.push(server.error);
  else if (server.last_error && ["backoff", "fatal"].includes(server.state)) notes.push(server.last_error);
  else if (server.description) notes.push(server.description);
  if (server.retry_in_s) notes.push(`next start in ${Math.ceil(server.retry_in_s)} s`);
  if (server.restarts) notes.push(count(server.restarts, "restart"));
  if (server.parked_calls) notes.push(`${count(server.parked_calls, "call")} wait for an answer`);
  return notes.join(" · ");
}

function childRow() {
  const state = badge();
  const spark = sparkline();
  const traffic = new Traffic();
  const pid = el("span", { class: "mono" });
  const age = el("span", { class: "quiet" });
  const cells = { latency: numeric("Latency"), cpu: numeric("CPU"), memory: numeric("Memory"), held: numeric("Held by") };
  const calls = cell("Calls", { class: "quiet" });
  const node = el(
    "tr",
    { role: "row", class: "child" },
    el("th", { scope: "row", role: "rowheader" }, pid, age),
    cell("State", {}, state.node),
    cell("Calls per second", { class: "traffic" }, ...spark.nodes),
    ...Object.values(cells),
    calls,
  );
  return {
    node,
    update({ child, at }) {
      traffic.add(at, child);
      say(pid, child.pid === null ? "remote" : `pid ${child.pid}`);
      say(age, seconds(child.uptime_s));
      state.set(child.state);
      spark.set(traffic);
      say(cells.latency, latency(traffic.latency));
      say(cells.cpu, percent(child.cpu_percent));
      say(cells.memory, bytes(child.resident_bytes));
      say(cells.held, String(child.holders));
      const open = child.open_calls ? `, ${child.open_calls} open` : "";
      say(calls, `${count(child.calls, "call")}${open}${child.open_questions ? `, ${count(child.open_questions, "question")}` : ""}`);
    },
  };
}

const numeric = (label) => cell(label, { class: "number" });

function sum(items, name) {
  const values = items.map((item) => item[name]).filter((value) => value !== null && value !== undefined);
  return values.length ? values.reduce((total, value) => total + value, 0) : null;
}

function serverActions(id, open) {
  const act = (action, done) => async () => {
    if (action !== "start") {
      const running = byServer.processes.length;
      const text = `${count(running, "process", "processes")} end now, with the calls that run in them.`;
      const stays = action === "stop" ? " Nothing starts it again before you do." : " The next call starts it again.";
      if (!(await confirm(`${action === "stop" ? "Stop" : "Restart"} ${id}?`, text + stays, action === "stop" ? "Stop" : "Restart"))) return;
    }
    try {
      await ask(`api/v1/servers/${encodeURIComponent(id)}/${action}`, { method: "POST" });
      tell(`${id}: ${done}`);
    } catch (error) {
      tell(`${id}: ${error.message}`, true);
    }
  };
  let byServer = { processes: [] };
  const label = (text) => ({ "aria-label": `${text} ${id}` });
  const console_ = button("Console", () => open("console", id), label("Console of"));
  const logs = button("Logs", () => open("logs", id), label("Logs of"));
  const restart = button("Restart", act("restart", "restarted"), label("Restart"));
  const stop = button("Stop", act("stop", "stopped"), label("Stop"));
  const start = button("Start", act("start", "it may start again"), label("Start"));
  return {
    nodes: [console_, logs, restart, stop, start],
    update(server, admin) {
      byServer = server;
      const works = !["invalid", "disabled", "stopping"].includes(server.state);
      const rests = ["stopped", "fatal", "backoff"].includes(server.state);
      console_.hidden = !works || server.state === "stopped";
      logs.hidden = !works || !admin; // they may hold what anyone has called
      restart.hidden = !works || !admin || rests;
      stop.hidden = !works || !admin || server.state === "stopped";
      start.hidden = !works || !admin || !rests;
    },
  };
}
