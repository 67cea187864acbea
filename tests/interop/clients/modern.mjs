// A server on the TypeScript SDK 2.x over its own HTTP: `modern.mjs ERAS`, where ERAS is `modern` for one that refuses
// everything before 2026-07-28, or `both`. Says on stdout where it listens. Its tools are those of the scenario `inputs`.

import http from "node:http";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { McpServer, createMcpHandler, inputRequired } from "@modelcontextprotocol/server";
import { z } from "zod";

const text = (value) => ({ content: [{ type: "text", text: value }] });
const elicit = (message, properties) =>
  inputRequired.elicit({
    message,
    requestedSchema: { type: "object", properties, required: Object.keys(properties) },
  });
const sample = (prompt) => {
  const message = { role: "user", content: { type: "text", text: prompt } };
  return inputRequired.createMessage({ messages: [message], maxTokens: 100 });
};
const NAME = () => elicit("What is your name?", { name: { type: "string" } });
let hidden = false;

// A handler without state of its own: asks, or goes on with the answers of this round.
const asks = (questions, answered) => async (args, ctx) => {
  const answers = (ctx ?? args).mcpReq.inputResponses;
  return answers ? text(answered(answers)) : inputRequired({ inputRequests: questions(args) });
};

function makeServer() {
  const server = new McpServer({ name: "remote", version: "1" }, { capabilities: { tools: { listChanged: true } } });
  const tool = (name, inputSchema, handler) => server.registerTool(name, { description: name, inputSchema }, handler);
  tool(
    "test_sampling",
    z.object({ prompt: z.string() }),
    asks(
      ({ prompt }) => ({ model: sample(prompt) }),
      ({ model }) => `LLM response: ${model.content.text}`,
    ),
  );
  tool(
    "test_input_required_result_list_roots",
    z.object({}),
    asks(
      () => ({ roots: inputRequired.listRoots() }),
      ({ roots }) => `Roots: ['${roots.roots[0].uri}']`,
    ),
  );
  tool(
    "test_input_required_result_multiple_inputs",
    z.object({}),
    asks(
      () => ({ user_name: NAME(), greeting: sample("Generate a greeting"), client_roots: inputRequired.listRoots() }),
      (answers) => `Answered: [${Object.keys(answers).sort().map((key) => `'${key}'`).join(", ")}]`,
    ),
  );
  tool("test_input_required_result_multi_round", z.object({}), async (_, ctx) => {
    const { step1, step2 } = ctx.mcpReq.inputResponses ?? {};
    if (step2) return text(`${ctx.mcpReq.requestState()} likes ${step2.content.color}`);
    if (!step1) return inputRequired({ inputRequests: { step1: NAME() } });
    const step = elicit("What is your favorite color?", { color: { type: "string" } });
    return inputRequired({ inputRequests: { step2: step }, requestState: step1.content.name });
  });
  tool("test_tool_with_progress", z.object({}), async (_, ctx) => {
    const { progressToken } = ctx.mcpReq._meta ?? {};
    for (const progress of [0, 50, 100]) {
      await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
    }
    return text("done");
  });
  tool("test_trigger_tool_change", z.object({}), async () => {
    hidden = !hidden;
    handler.notify.toolsChanged();
    return text("changed");
  });
  const region = z.string().meta({ "x-mcp-header": "Region" });
  tool("where", z.object({ region }), async ({ region }) => text(region));
  if (!hidden) tool("test_sometimes_tool", z.object({}), async () => text("still here"));
  return server;
}

const legacy = process.argv[2] === "modern" ? "reject" : "stateless";
const handler = createMcpHandler(makeServer, { legacy });
const server = http.createServer(toNodeHandler(handler));
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
