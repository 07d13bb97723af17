"""kill -9 at random points of streams, and what the store has afterwards: `python -m tests.faults.killed --runs 1000`.

Every run is a process of its own (forked, so that a thousand take minutes) on the same database. It serves exchanges as
fast as it can; its client writes on a *tape* what it has got, the moment it gets it. The parent kills it after a random
number of lines. Whatever the tape says had an effect, so the store must have the record that allowed it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import anyio

from luthien_guard import Block, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from luthien_guard.records import EventType
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import intact

Durability = Literal["strict", "balanced"]
REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


_BASH = {"name": "bash", "arguments": '{"cmd": "rm"}'}
_CALL = {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": _BASH}]}
STREAM = [
    _event({"role": "assistant", "content": "look "}),
    *(_event({"content": f"word{number} "}) for number in range(8)),
    _event(_CALL),
    _event({}, "tool_calls"),
    b"data: [DONE]\n\n",
]


class NoCalls(Policy):
    """Its message is what shows on the tape that a verdict had its effect."""

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no", message="BLOCKED-BY-VERDICT")


@dataclass
class Findings:
    """What was seen over all runs; `problems` is empty when every promise was kept."""

    runs: int = 0
    exchanges: int = 0
    interrupted: int = 0
    lines: int = 0
    problems: list[str] = field(default_factory=list)


# -- the process that is killed ----------------------------------------------------------------------------------------


def _child(tape: int, path: Path, durability: Durability) -> NoReturn:
    try:
        anyio.run(_serve, tape, path, durability)
    finally:
        os._exit(1)


async def _serve(tape: int, path: Path, durability: Durability) -> None:
    guard = Guard([NoCalls()], store=f"sqlite:///{path}", durability=durability)
    async with guard, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(_client, tape, guard)


async def _client(tape: int, guard: Guard) -> None:
    app = GuardMiddleware(_upstream, guard=guard)
    while True:
        await _exchange(tape, app)


async def _exchange(tape: int, app: GuardMiddleware) -> None:
    call_id = ""
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await anyio.sleep_forever()
        asked = True
        return {"type": "http.request", "body": REQUEST, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal call_id
        if message["type"] == "http.response.start":
            call_id = dict(message["headers"])[b"x-luthien-call-id"].decode()
        elif message.get("body"):
            blocked = b"BLOCKED-BY-VERDICT" in message["body"]
            os.write(tape, json.dumps([call_id, blocked]).encode() + b"\n")

    headers = [(b"content-type", b"application/json")]
    path = "/v1/chat/completions"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers,
             "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "state": {}}  # fmt: skip
    await app(scope, receive, send)


async def _upstream(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    )
    for piece in STREAM:
        await anyio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


# -- the one that kills, and looks -------------------------------------------------------------------------------------


def run(runs: int, durability: Durability, seed: int, path: Path) -> Findings:
    """Kill `runs` processes, one after the other; then look at the store."""
    chance = random.Random(seed)
    found = Findings(runs)
    effects: set[tuple[str, bool]] = set()
    for _ in range(runs):
        effects |= _killed(path, durability, chance.randint(1, 60), found)
    _look(path, durability, effects, found)
    return found


def _killed(path: Path, durability: Durability, after: int, found: Findings) -> set[tuple[str, bool]]:
    out, tape = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        _child(tape, path, durability)
    os.close(tape)
    seen: set[tuple[str, bool]] = set()
    with os.fdopen(out, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == after:
                # What is in the pipe by then has reached the client all the same.
                os.kill(pid, signal.SIGKILL)
            call_id, blocked = json.loads(line)
            seen.add((call_id, blocked))
            found.lines += 1
    os.waitpid(pid, 0)
    return seen


def _look(path: Path, durability: Durability, effects: set[tuple[str, bool]], found: Findings) -> None:
    with sqlite3.connect(path) as db:
        if (state := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            found.problems.append(f"integrity: {state}")
    db.close()
    anyio.run(_started_once_more, path)
    store = SqliteStore(path)
    store.open()
    _, rows = store.tail(0, limit=10_000_000)
    store.close()
    calls: dict[str, list[Any]] = {}
    for row in rows:
        calls.setdefault(row.call_id, []).append(row)
    found.exchanges = len(calls)
    for call_id, chain in calls.items():
        _look_at_chain(call_id, sorted(chain, key=lambda row: row.seq), found)
    for call_id, blocked in effects:
        kinds = {row.event_type for row in calls.get(call_id, ())}
        if blocked and EventType.VERDICT.value not in kinds:
            found.problems.append(f"{call_id}: the client was told of a verdict that is not on record")
        if durability == "strict" and not {"request.received", "response.started"} <= kinds:
            found.problems.append(f"{call_id}: bytes left before their record: {sorted(kinds)}")


def _look_at_chain(call_id: str, chain: list[Any], found: Findings) -> None:
    if [row.seq for row in chain] != list(range(len(chain))):
        found.problems.append(f"{call_id}: gap or duplicate: {[row.seq for row in chain]}")
    before = ""
    for row in chain:
        if not intact(row) or row.prev_hash != before:
            found.problems.append(f"{call_id}/{row.seq}: the chain is broken")
        before = row.hash
    ends = [row.details["outcome"] for row in chain if row.event_type == EventType.CLOSED.value]
    if len(ends) != 1 or chain[-1].event_type != EventType.CLOSED.value:
        found.problems.append(f"{call_id}: {len(ends)} ends")
    found.interrupted += ends == ["interrupted"]


async def _started_once_more(path: Path) -> None:
    """The next start closes what the last process left."""
    async with Guard(store=f"sqlite:///{path}"):
        pass


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--durability", choices=["strict", "balanced"], default="strict")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(given.runs, given.durability, given.seed, Path(folder) / "guard.db")
    print(json.dumps(found.__dict__))


if __name__ == "__main__":
    main()
