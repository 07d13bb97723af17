// @anthropic-ai/sdk (Node).
import Anthropic from "@anthropic-ai/sdk";
import { PLAN, model, play } from "./plan.mjs";

const client = new Anthropic({ baseURL: PLAN.url, apiKey: "any", maxRetries: 0 });
const TOOLS = PLAN.tools.map((name) => ({ name, description: name, input_schema: PLAN.schema }));

async function ask(history, stream, headers, tools) {
  const given = { model: model(headers), max_tokens: 1000, messages: history, ...(tools ? { tools: TOOLS } : {}) };
  const [message, shown] = await (stream ? streamed : whole)(given, { headers });
  const calls = message.content
    .filter((each) => each.type === "tool_use")
    .map((each) => [each.id, each.name, each.input]);
  return { said: text(message), shown, calls, history: [{ role: "assistant", content: message.content }] };
}

const text = (message) =>
  message.content
    .filter((each) => each.type === "text")
    .map((each) => each.text)
    .join("");

async function whole(given, options) {
  const message = await client.messages.create(given, options);
  return [message, text(message)];
}

async function streamed(given, options) {
  let shown = "";
  const events = client.messages.stream(given, options).on("text", (delta) => (shown += delta));
  return [await events.finalMessage(), shown];
}

await play(ask, (calls) => [
  { role: "user", content: calls.map(([id]) => ({ type: "tool_result", tool_use_id: id, content: "done" })) },
]);
