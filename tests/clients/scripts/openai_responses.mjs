// openai (Node), Responses.
import OpenAI from "openai";
import { PLAN, model, play } from "./plan.mjs";

const client = new OpenAI({ baseURL: PLAN.url + "/v1", apiKey: "any", maxRetries: 0 });
const TOOLS = PLAN.tools.map((name) => ({
  type: "function",
  name,
  description: name,
  parameters: PLAN.schema,
  strict: false,
}));

async function ask(history, stream, headers, tools) {
  const given = { model: model(headers), input: history, ...(tools ? { tools: TOOLS } : {}) };
  const [response, shown] = await (stream ? streamed : whole)(given, { headers });
  const calls = response.output
    .filter((each) => each.type === "function_call")
    .map((each) => [each.call_id, each.name, JSON.parse(each.arguments)]);
  const kept = response.output.map(({ parsed_arguments, ...item }) => item);
  return { said: response.output_text, shown, calls, history: kept };
}

async function whole(given, options) {
  const response = await client.responses.create(given, options);
  return [response, response.output_text];
}

async function streamed(given, options) {
  let shown = "";
  const events = client.responses.stream(given, options);
  events.on("response.output_text.delta", (event) => (shown += event.delta));
  return [await events.finalResponse(), shown];
}

await play(ask, (calls) =>
  calls.map(([id]) => ({ type: "function_call_output", call_id: id, output: "done" })),
);
