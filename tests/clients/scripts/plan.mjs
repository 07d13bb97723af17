// What plan.py does, for Node.
import { readFileSync } from "node:fs";

export const PLAN = JSON.parse(readFileSync(0, "utf8"));
export const USER = { role: "user", content: PLAN.prompt };
const TURNS = 4;

export const model = (headers) => (headers["x-luthien-recording"] ? "recorded" : PLAN.model);

// ask(history, stream, headers, withTools) -> {said, shown, calls: [[id, name, arguments]], history}
export async function play(ask, results) {
  const found = { said: {}, tools: {}, recorded: {} };
  for (const [kind, stream] of [["whole", false], ["stream", true]]) {
    const turn = await ask([USER], stream, {}, false);
    found.said[kind] = [turn.said, turn.shown];
    found.tools[kind] = await loop(ask, results, stream);
    for (const recording of PLAN.recordings[kind]) {
      const replayed = await ask([USER], stream, { "x-luthien-recording": recording }, false);
      found.recorded[recording] = [replayed.said, replayed.shown];
    }
  }
  console.log(JSON.stringify(found));
}

async function loop(ask, results, stream) {
  let history = [USER];
  const executed = [];
  for (let turn = 0; turn < TURNS; turn++) {
    const answer = await ask(history, stream, {}, true);
    if (!answer.calls.length) return { executed, final: answer.said };
    executed.push(...answer.calls.map(([, name, given]) => [name, given]));
    history = [...history, ...answer.history, ...results(answer.calls)];
  }
  throw new Error("the client is asked for tools without end");
}
