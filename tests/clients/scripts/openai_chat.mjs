// openai (Node), Chat Completions.
import OpenAI from "openai";
import { PLAN, model, play } from "./plan.mjs";

const client = new OpenAI({ baseURL: PLAN.url + "/v1", apiKey: "any", maxRetries: 0 });
const TOOLS = PLAN.tools.map((name) => ({
  type: "function",
  function: { name, description: name, parameters: PLAN.schema },
}));

async function ask(history, stream, headers, tools) {
  const given = { model: model(headers), messages: history, ...(tools ? { tools: TOOLS } : {}) };
  const [message, shown] = await (stream ? streamed : whole)(given, { headers });
  const calls = (message.tool_calls ?? []).map((each) => [
    each.id,
    each.function.name,
    JSON.parse(each.function.arguments),
  ]);
  const asked = (message.tool_calls ?? []).map(({ id, type, function: { name, arguments: given } }) => ({
    id,
    type,
    function: { name, arguments: given },
  }));
  const kept = { role: "assistant", content: message.content, tool_calls: asked };
  return { said: message.content ?? "", shown, calls, history: [kept] };
}

async function whole(given, options) {
  const completion = await client.chat.completions.create(given, options);
  const message = completion.choices[0].message;
  return [message, message.content ?? ""];
}

async function streamed(given, options) {
  let shown = "";
  const events = client.chat.completions.stream(given, options).on("content", (delta) => (shown += delta));
  return [(await events.finalChatCompletion()).choices[0].message, shown];
}

await play(ask, (calls) => calls.map(([id]) => ({ role: "tool", tool_call_id: id, content: "done" })));
