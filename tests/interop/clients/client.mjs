// A client on the TypeScript SDK: `client.mjs URL SCENARIO OPTIONS MODE`, where MODE is `1` for the 1.x package, or
// `legacy` (the default of that SDK) or `auto` for the 2.x package. Prints what it saw as one JSON object, the last
// line of stdout. Scenarios and their output are those of scenarios.py. With `times` in OPTIONS, so many clients do so at
// once, each with a number and a name: this module is loaded once for each, the SDK once for all.

import path from "node:path";
import readline from "node:readline";

const FORM = { name: "Ada Lovelace", check: true, integer: 7, color: "blue" };
const MODEL = "interop-model";
const RESOURCE = "demo://resource/static/document/features.md";
const PROMPT = { name: "args-prompt", arguments: { city: "Paris", state: "Texas" } };

const [url, scenario, rawOptions, mode] = process.argv.slice(2);
const number = new URL(import.meta.url).searchParams.get("number");
const own = number === null ? {} : { number: Number(number), name: `client ${number}` };
const options = { ...JSON.parse(rawOptions), ...own };
const seen = { ...own };
const wire = [];
let client;
let changed;
const change = new Promise((resolve) => (changed = resolve));
let logged;
const log = new Promise((resolve) => (logged = resolve));

async function call(name, args = {}, requestOptions = undefined) {
  // 1.x has a result schema between the two, which may be undefined.
  return mode === "1"
    ? client.callTool({ name, arguments: args }, undefined, requestOptions)
    : client.callTool({ name, arguments: args }, requestOptions);
}

async function text(name, args, requestOptions) {
  const result = await call(name, args, requestOptions);
  const joined = result.content.map((content) => content.text).join("\n");
  if (result.isError) throw new Error(`${name}: ${joined}`);
  return joined;
}

async function failure(name, args) {
  const result = await call(name, args);
  if (!result.isError) throw new Error(`${name} did not fail: ${JSON.stringify(result)}`);
  return result.content.map((content) => content.text).join("\n");
}

async function progress(name, args) {
  const steps = [];
  const onprogress = (step) => steps.push([step.progress, step.total ?? null, step.message ?? null]);
  return { text: await text(name, args, { onprogress }), steps };
}

const toolNames = async () => (await client.listTools()).tools.map((tool) => tool.name).sort();

async function meet() {
  console.log("ready");
  const lines = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => lines.once("line", resolve));
  lines.close();
}

const scenarios = {
  async everything() {
    seen.tools = await toolNames();
    seen.echo = await text("echo", { message: "Grüße, 世界" });
    seen.long = await progress("trigger-long-running-operation", { duration: 0.5, steps: 5 });
    seen.sampling = await text("trigger-sampling-request", { prompt: "say cheese" });
    seen.elicitation = await text("trigger-elicitation-request");
    seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name).sort();
    seen.resources = (await client.listResources()).resources.map((resource) => resource.uri).sort();
    seen.prompt = (await client.getPrompt(PROMPT)).messages;
    seen.resource = (await client.readResource({ uri: RESOURCE })).contents;
  },
  async roots() {
    seen.log = await log;
    seen.roots = await text("get-roots-list");
  },
  async filesystem() {
    seen.tools = await toolNames();
    const folder = (await text("list_allowed_directories")).split("\n").at(-1);
    const file = path.join(folder, options.file);
    seen.write = await text("write_file", { path: file, content: options.content });
    seen.read = await text("read_text_file", { path: file });
  },
  async memory() {
    seen.tools = await toolNames();
    await call("create_entities", { entities: [options.entity] });
    seen.graph = (await call("read_graph")).structuredContent;
  },
  async demo() {
    seen.tools = await toolNames();
    seen.echo = await text("echo", { text: options.text });
    seen.add = await text("add", { a: 2, b: 3.5 });
    seen.count = [await text("count"), await text("count"), await text("count")];
    seen.slow = await progress("slow", { seconds: 0.4, steps: 4 });
    seen.greet = await text("greet");
  },
  async slow() {
    seen.slow = await progress("slow", { seconds: 0.4, steps: 4 });
  },
  async together() {
    seen.first = await text("count");
    await meet();
    seen.slow = await progress("slow", { seconds: 0.4, steps: 4 });
    seen.greet = await text("greet");
    seen.second = await text("count");
  },
  async share() {
    seen.counts = [Number(await text("count"))];
    await meet();
    seen.slow = await progress("slow", { seconds: 0.4, steps: 4 });
    seen.counts.push(Number(await text("count")));
  },
  async remember() {
    await call("create_entities", { entities: [options.entity] });
    await meet();
    seen.graph = (await call("read_graph")).structuredContent;
  },
  async git() {
    const repo = { repo_path: options.repo };
    seen.tools = await toolNames();
    seen.before = await text("git_status", repo);
    seen.add = await text("git_add", { ...repo, files: options.files });
    seen.commit = await text("git_commit", { ...repo, message: options.message });
    seen.after = await text("git_status", repo);
    seen.log = await text("git_log", { ...repo, max_count: 5 });
  },
  async inputs() {
    seen.tools = await toolNames();
    seen.sampling = await text("test_sampling", { prompt: "say cheese" });
    seen.roots = await text("test_input_required_result_list_roots");
    seen.three = await text("test_input_required_result_multiple_inputs");
    seen.twice = await text("test_input_required_result_multi_round");
    seen.steps = (await progress("test_tool_with_progress")).steps;
    if (seen.tools.includes("where")) seen.where = await text("where", { region: "Zürich" });
    const modern = seen.protocol === "2026-07-28";
    const subscription = modern ? await client.listen({ toolsListChanged: true }) : undefined;
    await text("test_trigger_tool_change");
    await change;
    await subscription?.close();
    seen.changed = await toolNames();
    await text("test_trigger_tool_change");
  },
  async tour() {
    const outcome = (doing) => doing.catch((error) => ({ raised: String(error) }));
    const each = async (names, act) => {
      const found = {};
      for (const name of names) found[name] = await outcome(act(name));
      return found;
    };
    const tools = (await client.listTools()).tools.map((tool) => tool.name);
    const prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
    const resources = (await client.listResources()).resources.map((resource) => resource.uri);
    seen.tools = await each(tools, (name) => call(name, options.tools[name] ?? {}));
    seen.prompts = await each(prompts, (name) => client.getPrompt({ name, arguments: options.prompts[name] }));
    seen.resources = await each([...resources, ...options.resources], (uri) => client.readResource({ uri }));
  },
  async fetch() {
    const { page, closed } = options;
    seen.tools = await toolNames();
    seen.page = await text("fetch", { url: page });
    seen.part = await text("fetch", { url: page, max_length: 10, start_index: 2 });
    seen.raw = await text("fetch", { url: page, raw: true });
    seen.closed = await failure("fetch", { url: closed });
    seen.prompt = (await client.getPrompt({ name: "fetch", arguments: { url: closed } })).messages;
  },
  async time() {
    const there = { source_timezone: "Asia/Tokyo", time: "16:30", target_timezone: "Asia/Kolkata" };
    seen.tools = await toolNames();
    seen.converted = JSON.parse(await text("convert_time", there));
    seen.nowhere = await failure("get_current_time", { timezone: "Nowhere/Land" });
  },
  async introduce() {
    const numbers = [0, 1, 2].map((n) => options.number * 10 + n);
    seen.calls = await Promise.all(numbers.map((n) => progress("introduce", { n })));
  },
  async leave() {
    await text("introduce", { n: 1 });
  },
  async late() {
    seen.hurry = await text("hurry");
    seen.echo = await text("echo", { text: "still here" });
  },
  async shutdown() {
    seen.tools = await toolNames();
    await meet();
    await client.listTools();
  },
  async start() {},
  async die() {
    seen.errors = [];
    for (let time = 0; time < 2; time++) {
      try {
        await text("die", { words: options.words });
      } catch (error) {
        seen.errors.push(String(error));
      }
    }
  },
};

// How many questions of the server the bridge still takes an answer to. Not counted in `wire`: it is no MCP.
async function openQuestions() {
  const children = await (await fetch(new URL("/children", url))).json();
  const { pathname } = new URL(url);
  return children
    .filter((child) => pathname.endsWith(`/${child.server}`))
    .reduce((sum, child) => sum + child.open_questions, 0);
}

async function sampling(request) {
  seen.sampling_asked = request.params.messages[0].content.text;
  return {
    role: "assistant",
    content: { type: "text", text: `sampled <${seen.sampling_asked}>` },
    model: MODEL,
  };
}

async function elicitation(request) {
  const { message, requestedSchema } = request.params;
  seen.elicitation_asked = message;
  if (scenario === "late") while (await openQuestions()) continue;
  if (scenario === "leave") await meet();
  const form = { ...FORM, name: options.name ?? FORM.name };
  const content = Object.fromEntries(Object.entries(form).filter(([name]) => name in requestedSchema.properties));
  return { action: "accept", content };
}

const roots = async () => ({ roots: [{ uri: options.root, name: "interop" }] });
const onLog = (note) => logged(note.params.data);

async function connect() {
  const info = { name: "interop", version: "1" };
  const capabilities = { sampling: {}, elicitation: { form: {} }, ...(options.root ? { roots: {} } : {}) };
  const watched = async (input, init) => {
    const response = await fetch(input, init);
    wire.push(`${init?.method ?? "GET"} ${response.status}`);
    return response;
  };
  let Client, StreamableHTTPClientTransport, SSEClientTransport, StdioClientTransport;
  if (mode === "1") {
    ({ Client } = await import("@modelcontextprotocol/sdk/client/index.js"));
    ({ StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js"));
    ({ SSEClientTransport } = await import("@modelcontextprotocol/sdk/client/sse.js"));
    ({ StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js"));
    const types = await import("@modelcontextprotocol/sdk/types.js");
    client = new Client(info, { capabilities });
    client.setRequestHandler(types.CreateMessageRequestSchema, sampling);
    client.setRequestHandler(types.ElicitRequestSchema, elicitation);
    if (options.root) client.setRequestHandler(types.ListRootsRequestSchema, roots);
    client.setNotificationHandler(types.LoggingMessageNotificationSchema, onLog);
    client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => changed());
  } else {
    ({ Client, StreamableHTTPClientTransport, SSEClientTransport } = await import("@modelcontextprotocol/client"));
    ({ StdioClientTransport } = await import("@modelcontextprotocol/client/stdio"));
    client = new Client(info, { capabilities, versionNegotiation: { mode } });
    client.setRequestHandler("sampling/createMessage", sampling);
    client.setRequestHandler("elicitation/create", elicitation);
    if (options.root) client.setRequestHandler("roots/list", roots);
    client.setNotificationHandler("notifications/message", onLog);
    client.setNotificationHandler("notifications/tools/list_changed", () => changed());
  }
  const transports = {
    http: () => new StreamableHTTPClientTransport(new URL(url), { fetch: watched }),
    sse: () => new SSEClientTransport(new URL(url), { fetch: watched }),
    stdio: () => new StdioClientTransport(options.program), // which knows the URL
  };
  const transport = transports[options.transport ?? "http"]();
  await client.connect(transport);
  return transport;
}

async function play() {
  try {
    const transport = await connect();
    seen.protocol = transport.protocolVersion;
    seen.server = client.getServerVersion().name;
    try {
      await scenarios[scenario]();
    } finally {
      try {
        await transport.terminateSession?.(); // close() alone leaves the session of HTTP to its time limit
      } finally {
        await client.close();
      }
    }
  } catch (error) {
    seen.error = String(error);
  }
  console.log(JSON.stringify({ ...seen, wire }));
}

if (options.times && number === null) {
  await Promise.all(Array.from({ length: options.times }, (_, n) => import(`./client.mjs?number=${n}`)));
} else {
  await play();
}
