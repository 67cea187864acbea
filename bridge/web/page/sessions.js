// Sessions by pool, with their age and how much of their time to live they have idled away.

import { ask } from "./api.js";
import { badge, byId, button, cell, confirm, el, rows, say, tell } from "./dom.js";
import { seconds } from "./format.js";

const POOLS = { streamable: "Sessions of HTTP clients", bridge: "Clients of the bridge, behind /bridge and modern calls" };

export function showSessions(snapshot) {
  const shown = snapshot.sessions.length;
  const all = snapshot.total_sessions;
  say(byId("sessions-count"), shown < all ? `the ${shown} last used of ${all}` : String(all));
  byId("no-sessions").hidden = shown > 0;
  const table = document.querySelector("#sessions table");
  table.hidden = shown === 0;
  const byPool = Map.groupBy(snapshot.sessions, (session) => session.pool);
  const pools = Object.keys(POOLS).filter((pool) => byPool.has(pool));
  rows(table, pools.map((pool) => ({ pool, sessions: byPool.get(pool) })), ({ pool }) => pool, ({ pool }) => poolRows(pool), 1);
}

function poolRows(pool) {
  const title = el("th", { scope: "rowgroup", role: "rowheader", colspan: "7" });
  const node = el("tbody", { role: "rowgroup", data: { pool } }, el("tr", { role: "row", class: "pool" }, title));
  return {
    node,
    update({ sessions }) {
      say(title, `${POOLS[pool]} (${sessions.length})`);
      const ordered = sessions.toSorted((a, b) => a.created_at.localeCompare(b.created_at));
      rows(node, ordered, (session) => session.session_id, sessionRow, 1);
    },
  };
}

function sessionRow(first) {
  const id = first.session_id;
  const label = id.slice(0, 8);
  const state = badge();
  const meter = el("meter", { min: "0", max: "1", value: "0", "aria-label": `Idle time of ${label}` });
  const idle = el("span");
  const cells = { age: cell("Age", { class: "number" }), pid: cell("pid", { class: "number mono" }) };
  const close = button("Close", () => end(id, label), { "aria-label": `Close session ${label}` });
  const node = el(
    "tr",
    { role: "row", data: { session: id } },
    el("th", { scope: "row", role: "rowheader", class: "mono", title: id, text: label }),
    cell("Server", { text: first.server }),
    cell("State", {}, state.node),
    cells.age,
    cell("Idle", { class: "idle" }, meter, idle),
    cells.pid,
    cell("Actions", { class: "actions" }, first.pool === "streamable" ? close : null),
  );
  return {
    node,
    update(session) {
      const ttl = session.ttl_ms === null ? null : session.ttl_ms / 1000;
      state.set(session.state, session.persistent ? "kept in the session store" : "");
      say(cells.age, seconds(session.age_s));
      say(cells.pid, session.pid === null ? "–" : String(session.pid));
      meter.hidden = ttl === null;
      meter.value = ttl ? Math.min(1, session.idle_s / ttl) : 0;
      const used = session.in_use ? "in use" : seconds(session.idle_s);
      say(idle, ttl === null ? `${used}, never ends` : `${used} of ${seconds(ttl)}`);
    },
  };
}

async function end(id, label) {
  if (!(await confirm(`Close session ${label}?`, "Its process ends, and calls that run in it fail.", "Close"))) return;
  try {
    await ask(`api/v1/sessions/${encodeURIComponent(id)}`, { method: "DELETE" });
    tell(`session ${label} closed`);
  } catch (error) {
    tell(`session ${label}: ${error.message}`, true);
  }
}
