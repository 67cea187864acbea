// Calls per second and latency, from sums: what two snapshots differ in is what has happened between them.

import { say } from "./dom.js";
import { rate } from "./format.js";

const POINTS = 60;
const SVG = "http://www.w3.org/2000/svg";

/** The last minute of one server or child. */
export class Traffic {
  constructor() {
    this.history = [];
    this.latency = null;
    this.last = null;
  }

  add(at, row) {
    const last = this.last;
    this.last = { at, calls: row.calls ?? 0, answered: row.answered ?? 0, spent: row.answer_seconds ?? 0 };
    if (last === null || at <= last.at || this.last.calls < last.calls) return; // the first one, or another bridge
    this.history.push((this.last.calls - last.calls) / (at - last.at));
    if (this.history.length > POINTS) this.history.shift();
    const answered = this.last.answered - last.answered;
    if (answered > 0) this.latency = (this.last.spent - last.spent) / answered;
  }

  get rate() {
    return this.history.at(-1) ?? null;
  }
}

/** A line of the last minute with its newest value beside it. */
export function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "polyline");
  const number = document.createElement("span");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("spark");
  number.className = "number";
  svg.append(line);
  return {
    nodes: [svg, number],
    set(traffic) {
      const top = Math.max(1, ...traffic.history);
      const first = POINTS - traffic.history.length;
      const point = (value, at) => `${first + at},${(19 - (18 * value) / top).toFixed(1)}`;
      line.setAttribute("points", traffic.history.map(point).join(" "));
      say(number, rate(traffic.rate));
    },
  };
}
