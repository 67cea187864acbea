// An MCP client over Streamable HTTP, as any other: sessions, progress, questions of the server, cancellation.
// The rules: Streamable HTTP of the specification 2025-11-25, basic/transports.

import { events, refusal, request } from "./api.js";

const VERSION = "2025-11-25";
const METHOD_NOT_FOUND = -32601;
/** Pages of tools/list that are read, and times that a broken stream is taken up again. */
const MOST_PAGES = 20;
const RETRIES = 4;
const CLOSED = "the console was closed";

/** An error of the server. */
export class RpcError extends Error {
  constructor({ code, message }) {
    super(`${message} (${code})`);
    this.code = code;
  }
}

/** The session has idled too long, or was closed; another one has to be opened. */
export class SessionEnded extends Error {}

export class Client {
  constructor(server) {
    this.path = `mcp/${encodeURIComponent(server)}`;
    this.session = null;
    this.version = null;
    this.opening = null;
    this.closed = false;
    this.last = 0;
  }

  /** Open a session, unless there is one, or will be. Returns what the server says of itself. */
  open() {
    this.opening ??= this.greet().catch(async (error) => {
      await this.end();
      throw error;
    });
    return this.opening;
  }

  async greet() {
    if (this.closed) throw new SessionEnded(CLOSED);
    const params = { protocolVersion: VERSION, capabilities: { elicitation: {} }, clientInfo: { name: "mcp-stdio-bridge page", version: "1" } };
    this.version = null;
    const { id, message } = this.message("initialize", params);
    const greeting = await this.send(message, id, {});
    this.version = greeting.protocolVersion;
    await this.tell("notifications/initialized");
    return greeting;
  }

  async tools() {
    const found = [];
    let cursor;
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const result = await this.ask("tools/list", cursor === undefined ? {} : { cursor });
      found.push(...(result.tools ?? []));
      cursor = result.nextCursor;
      if (!cursor) break;
    }
    return found;
  }

  /** Begin a call. `on.progress`, `on.log`, `on.question(params, signal)`. Returns its `id`, its `result` as a promise, and
   * `abandon()`, after which nobody waits for it. */
  call(name, args, on) {
    const { id, message } = this.message("tools/call", { name, arguments: args });
    message.params._meta = { progressToken: id };
    const waiting = new AbortController();
    return { id, result: this.send(message, id, on, waiting.signal), abandon: () => waiting.abort() };
  }

  cancel(id) {
    return this.tell("notifications/cancelled", { requestId: id, reason: "cancelled by the user" });
  }

  /** End the session, also one that is only about to be there. Works while the page goes away, too. */
  async close() {
    this.closed = true;
    await this.end();
  }

  async end() {
    this.opening = null;
    if (this.session === null) return;
    const headers = this.headers();
    this.session = null;
    await request(this.path, { method: "DELETE", headers, keepalive: true }).catch(() => {});
  }

  ask(method, params) {
    const { id, message } = this.message(method, params);
    return this.send(message, id, {});
  }

  message(method, params) {
    this.last += 1;
    return { id: this.last, message: { jsonrpc: "2.0", id: this.last, method, params } };
  }

  headers() {
    const headers = { Accept: "application/json, text/event-stream" };
    if (this.session !== null) headers["Mcp-Session-Id"] = this.session;
    if (this.version !== null) headers["MCP-Protocol-Version"] = this.version;
    return headers;
  }

  post(message, signal) {
    const headers = { ...this.headers(), "Content-Type": "application/json" };
    return request(this.path, { method: "POST", headers, body: JSON.stringify(message), signal });
  }

  async tell(method, params) {
    await this.reply({ jsonrpc: "2.0", method, ...(params && { params }) });
  }

  async reply(message) {
    const response = await this.post(message);
    if (!response.ok) throw await refusal(response);
    await response.body?.cancel();
  }

  /** Send a request and see it to its answer. */
  async send(message, id, on, signal) {
    const had = this.session;
    const response = await this.post(message, signal);
    if (had === null) this.session = response.headers.get("Mcp-Session-Id");
    if (this.closed) {
      await response.body?.cancel();
      await this.end();
      throw new SessionEnded(CLOSED);
    }
    if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
      const text = await response.text();
      let answer = null;
      try {
        answer = JSON.parse(text);
      } catch {
        throw new Error(`HTTP ${response.status}`);
      }
      if (response.status === 404 && had !== null) {
        if (this.session === had) this.session = this.opening = null;
        throw new SessionEnded(answer.error?.message ?? "the session has ended");
      }
      return outcome(answer);
    }
    const answer = await this.read(response, id, on, signal);
    if (answer === null) throw new Error("the stream ended without an answer");
    return outcome(answer);
  }

  /** Read a stream until the answer comes; where it breaks, go on with what follows its last event. */
  async read(response, id, on, signal) {
    const seen = { event: null };
    const questions = new Map();
    try {
      for (let broken = 0; broken <= RETRIES; broken += 1) {
        const answer = await this.messages(response, id, on, seen, questions);
        if (answer !== null || seen.event === null || this.session === null) return answer;
        await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** broken));
        const headers = { ...this.headers(), Accept: "text/event-stream", "Last-Event-ID": seen.event };
        signal?.throwIfAborted();
        const again = await request(this.path, { headers, signal }).catch(() => null);
        if (again === null) continue;
        if (!again.ok) throw await refusal(again);
        response = again;
      }
    } finally {
      for (const question of questions.values()) question.abort();
    }
    return null;
  }

  async messages(response, id, on, seen, questions) {
    try {
      for await (const event of events(response)) {
        if (event.id) seen.event = event.id;
        if (event.data === "") continue;
        const message = JSON.parse(event.data);
        if (message.id === id && message.method === undefined) return message;
        this.hear(message, on, questions);
      }
    } catch (error) {
      if (error instanceof SyntaxError || error.name === "AbortError") throw error;
    }
    return null;
  }

  hear(message, on, questions) {
    const params = message.params ?? {};
    if (message.method === "notifications/progress") on.progress?.(params);
    else if (message.method === "notifications/message") on.log?.(params);
    else if (message.method === "notifications/cancelled") questions.get(params.requestId)?.abort();
    else if (message.method !== undefined && message.id !== undefined) this.answer(message, on, questions);
  }

  async answer({ id, method, params }, on, questions) {
    const reply = { jsonrpc: "2.0", id };
    if (method === "ping") reply.result = {};
    else if (method === "elicitation/create" && on.question) {
      const withdrawn = new AbortController();
      questions.set(id, withdrawn);
      reply.result = await on.question(params ?? {}, withdrawn.signal);
      questions.delete(id);
      if (withdrawn.signal.aborted) return;
    } else reply.error = { code: METHOD_NOT_FOUND, message: `this client does not answer ${method}` };
    await this.reply(reply).catch((error) => on.log?.({ level: "error", data: `the answer was refused: ${error.message}` }));
  }
}

function outcome(answer) {
  if (answer.error) throw new RpcError(answer.error);
  return answer.result ?? {};
}
