// A server's tools, with a form for each, over the same /mcp that every client uses.

import { badge, button, el, say } from "./dom.js";
import { Wrong, form } from "./form.js";
import { content, text } from "./content.js";
import { latency } from "./format.js";
import { Client, SessionEnded } from "./mcp.js";

/** Tools that are listed, and calls that stay on the page. */
const MOST_TOOLS = 500;
const MOST_CALLS = 20;

export class Console {
  constructor(server) {
    this.client = new Client(server);
    this.state = badge();
    this.filter = el("input", { type: "search", placeholder: "find a tool", "aria-label": "Find a tool", on: { input: () => this.list() } });
    this.tools = [];
    this.listed = el("div", { class: "tools", role: "group", "aria-label": "Tools" });
    this.form = el("form", { novalidate: true });
    this.calls = el("div", { class: "console", "aria-label": "Calls", role: "group" });
    const again = button("Reload", () => this.load());
    this.node = el("div", { class: "console" }, el("div", { class: "bar" }, this.state.node, again), this.filter, this.listed, this.form, this.calls);
    this.load();
  }

  close() {
    this.client.close();
  }

  async load() {
    this.state.set("connecting");
    try {
      const greeting = await this.client.open();
      this.tools = await this.client.tools();
      const { name = "", version = "" } = greeting.serverInfo ?? {};
      this.state.set("live", `MCP ${greeting.protocolVersion}`);
      say(this.state.node, `${name} ${version}`.trim() || "connected");
      this.list();
    } catch (error) {
      this.state.set("failed");
      say(this.state.node, error.message);
    }
  }

  list() {
    const wanted = this.filter.value.toLowerCase();
    const found = this.tools.filter((tool) => `${tool.name} ${tool.title ?? ""} ${tool.description ?? ""}`.toLowerCase().includes(wanted));
    const items = found.slice(0, MOST_TOOLS).map((tool) => {
      const chosen = this.chosen?.name === tool.name;
      const item = button("", () => this.choose(tool), { data: { tool: tool.name }, "aria-current": chosen ? "true" : null });
      item.append(el("span", { class: "mono", text: tool.name }), el("span", { class: "quiet", text: firstLine(tool.description ?? tool.title) }));
      return item;
    });
    const none = this.tools.length ? "No tool matches." : "This server has no tools.";
    this.listed.replaceChildren(...(items.length ? items : [el("p", { class: "quiet note", text: none })]));
  }

  choose(tool) {
    this.chosen = tool;
    for (const item of this.listed.children) item.toggleAttribute("aria-current", false);
    for (const item of this.listed.children) if (item.dataset.tool === tool.name) item.setAttribute("aria-current", "true");
    const fields = form(tool.inputSchema);
    const head = el("h3", { class: "mono", text: tool.name });
    const about = el("p", { class: "field" }, el("span", { class: "about", text: tool.description ?? "" }));
    const submit = el("button", { type: "submit", class: "primary", text: "Call" });
    this.form.replaceChildren(head, about, fields.node, el("p", { class: "bar" }, el("span"), submit));
    this.form.onsubmit = (event) => {
      event.preventDefault();
      try {
        this.call(tool, fields.read());
      } catch (error) {
        if (!(error instanceof Wrong)) throw error;
      }
    };
    (fields.node.querySelector("input, select, textarea") ?? submit).focus();
  }

  async call(tool, args) {
    const shown = new Call(tool);
    this.calls.prepend(shown.node);
    while (this.calls.children.length > MOST_CALLS) this.calls.lastElementChild.remove();
    const on = { progress: (params) => shown.progress(params), log: (params) => shown.log(params), question: (params, signal) => shown.ask(params, signal) };
    for (let again = 0; ; again += 1) {
      try {
        await this.client.open();
        const { id, result, abandon } = this.client.call(tool.name, args, on);
        shown.cancellable(() => this.client.cancel(id).catch(() => {}).finally(abandon));
        shown.end(await result);
      } catch (error) {
        if (error instanceof SessionEnded && again === 0) continue; // it idled too long: nothing has run
        shown.fail(error);
      }
      return;
    }
  }
}

/** One call on the page: its progress, what the server asks meanwhile, and its result. */
class Call {
  constructor(tool) {
    this.began = performance.now();
    this.state = badge();
    this.state.node.setAttribute("role", "status"); // how it ends is said aloud; what it says may be very long
    this.state.set("opening");
    say(this.state.node, "running");
    this.bar = el("progress", { hidden: true, "aria-label": `Progress of ${tool.name}` });
    this.note = el("p", { class: "quiet", role: "status" });
    this.body = el("div", { class: "console" });
    this.cancel = button("Cancel", () => {}, { hidden: true });
    const head = el("div", { class: "bar" }, el("h3", { class: "mono", text: tool.name }), this.state.node, this.cancel);
    this.node = el("article", { class: "call", data: { call: tool.name } }, head, this.bar, this.note, this.body);
  }

  cancellable(cancel) {
    this.cancel.hidden = this.ended === true;
    this.cancel.onclick = () => {
      this.cancel.disabled = true;
      say(this.note, "the server is told to stop");
      cancel();
    };
  }

  progress({ progress, total, message }) {
    this.bar.hidden = false;
    if (typeof total === "number" && total > 0) {
      this.bar.max = total;
      this.bar.value = Math.min(progress, total);
    }
    const of = typeof total === "number" ? ` of ${total}` : "";
    say(this.note, `${progress}${of}${message ? `: ${message}` : ""}`);
  }

  log({ level, data }) {
    this.body.append(el("p", { class: "quiet", text: `${level}: ${text(data)}` }));
    if (this.body.children.length > 200) this.body.firstElementChild.remove();
  }

  /** Show a question of the server, and return its answer (specification, elicitation). */
  ask({ message, requestedSchema }, signal) {
    this.state.set("asks", "the server waits for an answer");
    const fields = form(requestedSchema);
    return new Promise((resolve) => {
      const end = (answer) => {
        question.remove();
        this.state.set("opening");
        say(this.state.node, "running");
        resolve(answer);
      };
      const accept = (event) => {
        event.preventDefault();
        try {
          end({ action: "accept", content: fields.read() });
        } catch (error) {
          if (!(error instanceof Wrong)) throw error;
        }
      };
      const buttons = [button("Cancel", () => end({ action: "cancel" })), button("Decline", () => end({ action: "decline" })), el("button", { type: "submit", class: "primary", text: "Accept" })];
      const title = el("p", { role: "alert", text: `The server asks: ${text(message)}` });
      const question = el("form", { class: "question", novalidate: true, "aria-label": "Question of the server", on: { submit: accept } }, title, fields.node, el("div", { class: "bar" }, ...buttons));
      this.body.append(question);
      question.querySelector("input, select, textarea, button").focus();
      signal.addEventListener("abort", () => end({ action: "cancel" }), { once: true });
    });
  }

  end(result) {
    this.finish(result.isError ? "failed" : "done", result.isError ? "the tool says error" : "");
    this.body.append(...content(result));
  }

  fail(error) {
    if (error.name === "AbortError") {
      this.finish("stopped", "cancelled");
      return;
    }
    this.finish("failed", "");
    this.body.append(el("p", { class: "wrong", text: error.message }));
  }

  finish(state, why) {
    this.ended = true;
    this.cancel.hidden = true;
    this.bar.hidden = true;
    this.state.set(state, why);
    say(this.state.node, `${state}${why ? `: ${why}` : ""}, ${latency((performance.now() - this.began) / 1000)}`);
  }
}

function firstLine(description) {
  return String(description ?? "").trim().split("\n", 1)[0];
}
