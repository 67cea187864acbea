// What the processes of a server write to stderr: the last lines, and those that follow.

import { ask, events } from "./api.js";
import { badge, button, el, say } from "./dom.js";
import { count } from "./format.js";

/** Lines that are asked for, and lines that stay on the page. */
const TAIL = 300;
const MOST = 2000;
const LONGEST_PAUSE = 15000;

export class Logs {
  constructor(server) {
    this.path = `api/v1/servers/${encodeURIComponent(server)}/logs`;
    this.state = badge();
    this.filter = el("input", { type: "search", placeholder: "show lines with …", "aria-label": "Show lines with", on: { input: () => this.sift() } });
    this.toggle = button("Follow", () => this.follow(this.stream === null), { "aria-pressed": "true" });
    this.count = el("span", { class: "quiet", role: "status" });
    this.lines = el("ol", { class: "lines", tabindex: "0", "aria-label": `Log of ${server}` });
    const bar = el("div", { class: "bar" }, this.state.node, this.count, this.toggle);
    this.node = el("div", { class: "logs" }, bar, this.filter, this.lines);
    this.stream = null;
    this.follow(true);
  }

  close() {
    this.stream?.abort();
    this.stream = null;
  }

  /** Show what is written from now on, or leave what is there as it is. */
  async follow(on) {
    this.close();
    this.toggle.setAttribute("aria-pressed", String(on));
    if (!on) {
      this.state.set("paused");
      return;
    }
    const stream = (this.stream = new AbortController());
    for (let pause = 500; this.stream === stream; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        this.state.set("connecting");
        const response = await ask(`${this.path}?tail=${TAIL}&follow=true`, { signal: stream.signal });
        this.lines.replaceChildren(); // the tail has all that was there
        this.state.set("live");
        for await (const { data } of events(response)) {
          pause = 500;
          this.add(data);
        }
        if (this.stream === stream) this.state.set("lost");
      } catch (error) {
        if (this.stream !== stream) return;
        this.state.set("lost", error.message);
        if (error.status === 404 || error.status === 403) {
          this.state.set("failed");
          say(this.state.node, error.message);
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  add(text) {
    const atEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 30;
    const line = el("li", { text: text === "" ? " " : text });
    line.hidden = !this.matches(text);
    this.lines.append(line);
    while (this.lines.children.length > MOST) this.lines.firstElementChild.remove();
    if (atEnd) this.lines.scrollTop = this.lines.scrollHeight;
    this.tally();
  }

  matches(text) {
    return text.toLowerCase().includes(this.filter.value.toLowerCase());
  }

  sift() {
    for (const line of this.lines.children) line.hidden = !this.matches(line.textContent);
    this.lines.scrollTop = this.lines.scrollHeight;
    this.tally();
  }

  /** Say how much there is: at once for the filter, once in a while for what comes in. */
  tally() {
    this.tallying ??= setTimeout(() => {
      this.tallying = undefined;
      const all = this.lines.children.length;
      const shown = this.filter.value ? this.lines.querySelectorAll("li:not([hidden])").length : all;
      say(this.count, shown === all ? count(all, "line") : `${shown} of ${count(all, "line")}`);
    }, 100);
  }
}
