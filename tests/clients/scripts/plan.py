"""What every client does: it reads a plan from standard input, asks, runs the tools that it is asked to run, and prints
what it got. Runs in the client's own environment, so it imports nothing of the project."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """One answer. `said` as the client holds it at the end, `shown` as it came; `calls` are (id, name, arguments);
    `history` is what it adds to the conversation."""

    said: str
    shown: str
    calls: list[tuple[str, str, Any]]
    history: list[Any]


PLAN: dict[str, Any] = json.load(sys.stdin)
USER = {"role": "user", "content": PLAN["prompt"]}
Ask = Callable[[list[Any], bool, dict[str, str], bool], Turn]
_TURNS = 4


def model(headers: dict[str, str]) -> str:
    """Recorded traffic is asked for by its own model's name, and by its id in a header."""
    return "recorded" if headers else PLAN["model"]


def play(ask: Ask, results: Callable[[list[tuple[str, str, Any]]], list[Any]]) -> None:
    """`ask(history, stream, headers, with tools)`; `results(calls)` is what answers them in the history."""
    found: dict[str, Any] = {"said": {}, "tools": {}, "recorded": {}}
    for kind, stream in (("whole", False), ("stream", True)):
        turn = ask([USER], stream, {}, False)
        found["said"][kind] = [turn.said, turn.shown]
        found["tools"][kind] = _loop(ask, results, stream)
        for recording in PLAN["recordings"][kind]:
            turn = ask([USER], stream, {"x-luthien-recording": recording}, False)
            found["recorded"][recording] = [turn.said, turn.shown]
    print(json.dumps(found))


def _loop(ask: Ask, results: Callable[[list[tuple[str, str, Any]]], list[Any]], stream: bool) -> Any:
    history: list[Any] = [USER]
    executed: list[Any] = []
    for _ in range(_TURNS):
        turn = ask(history, stream, {}, True)
        if not turn.calls:
            return {"executed": executed, "final": turn.said}
        executed += [[name, arguments] for _, name, arguments in turn.calls]
        history = [*history, *turn.history, *results(turn.calls)]
    raise SystemExit("the client is asked for tools without end")
