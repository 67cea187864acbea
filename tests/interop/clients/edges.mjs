// A server on the TypeScript SDK for what no published server does: die during a call, and give up on a question.

import { writeSync } from "node:fs";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import {
  CallToolRequestSchema,
  ElicitResultSchema,
  ListToolsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

const QUESTION = {
  message: "What is your name?",
  requestedSchema: { type: "object", properties: { name: { type: "string" } } },
};

const tools = {
  echo: ({ text }) => text,
  die({ words }) {
    writeSync(2, `${words}\n`);
    process.exit(4);
  },
  async hurry(_, sendRequest) {
    const question = { method: "elicitation/create", params: QUESTION };
    try {
      await sendRequest(question, ElicitResultSchema, { timeout: 200 });
    } catch (error) {
      return `gave up: ${error.message}`;
    }
    return "got an answer";
  },
};

const server = new Server({ name: "edges", version: "1" }, { capabilities: { tools: {} } });
server.setRequestHandler(ListToolsRequestSchema, () => ({
  tools: Object.keys(tools).map((name) => ({ name, inputSchema: { type: "object" } })),
}));
server.setRequestHandler(CallToolRequestSchema, async ({ params }, { sendRequest }) => ({
  content: [{ type: "text", text: await tools[params.name](params.arguments, sendRequest) }],
}));
await server.connect(new StdioServerTransport());
