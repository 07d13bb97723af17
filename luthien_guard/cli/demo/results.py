"""One row of the demo: what came, what left, who did it, what it cost, and whether a law is broken."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from luthien_guard.cli.demo.cases import FORBIDDEN, HARMFUL, Case
from luthien_guard.cli.demo.server import Doors, Visit, visit
from luthien_guard.cli.demo.upstream import Upstream
from luthien_guard.records import EventType, Record
from luthien_guard.testing.reading import read
from luthien_guard.testing.transcript import Transcript

__all__ = ["Result", "play"]


@dataclass
class Result:
    """A case that went through all three doors; `broken` names the laws that it broke."""

    case: Case
    came: Transcript
    left: Transcript
    by: tuple[str, ...]
    added_first: float  # milliseconds until the first byte, against the bare door
    added_last: float
    broken: list[str] = field(default_factory=list[str])


def play(case: Case, port: int, doors: Doors, upstream: Upstream) -> Result:
    """Send the case through the bare, the noop and the guarded door."""
    runs = {
        door: f"{case.wire_format}/{case.stream}/{case.name}{door}" for door in ("/bare", "/noop", "/guarded")
    }
    bare, noop, guarded = (visit(port, door, case, run) for door, run in runs.items())
    result = Result(
        case,
        read(case.body, case.wire_format, stream=case.stream),
        read(guarded.body, case.wire_format, stream=_is_sse(guarded)),
        _actors(doors, guarded),
        _added(upstream, runs, bare, guarded, end=0),
        _added(upstream, runs, bare, guarded, end=1),
    )
    result.broken = _broken(result, noop, guarded, doors)
    return result


def _is_sse(visited: Visit) -> bool:
    return not visited.body.lstrip().startswith(b"{")


def _added(upstream: Upstream, runs: dict[str, str], bare: Visit, guarded: Visit, *, end: int) -> float:
    """How much later than through the bare door the client had the first (last) byte, counted from the moment when
    the upstream had sent it."""

    def delay(seen: Visit, door: str) -> float:
        return (seen.last if end else seen.first) - upstream.times.get(runs[door], (0.0, 0.0))[end]

    return 1000 * (delay(guarded, "/guarded") - delay(bare, "/bare"))


def _actors(doors: Doors, guarded: Visit) -> tuple[str, ...]:
    facts = doors.guard.records_of(guarded.call_id)
    acts = [
        fact.policy for fact in facts if fact.type in (EventType.VERDICT, EventType.CHANGED) and fact.policy
    ]
    return tuple(dict.fromkeys(acts))


def _ends(doors: Doors, call_id: str) -> list[Record]:
    """The record is closed just after the client has its last byte: give it a second."""
    for _ in range(100):
        ends = [fact for fact in doors.guard.records_of(call_id) if fact.type is EventType.CLOSED]
        if ends:
            return ends
        time.sleep(0.01)
    return []


def _broken(result: Result, noop: Visit, guarded: Visit, doors: Doors) -> list[str]:
    case, broken = result.case, []
    if noop.body != case.body or noop.status != case.status:
        broken.append("identity: what no policy changed is not what came")
    if not case.stream or not result.came.problems:
        broken += [f"legal output: {problem}" for problem in result.left.problems if not result.came.problems]
    if result.came.complete and not result.left.complete:
        broken.append("legal output: the answer has no end")
    # a word may be cut over several events: what the client puts together counts as well as the bytes
    seen = guarded.body.decode("utf-8", "replace") + repr(result.left)
    for secret in (FORBIDDEN, HARMFUL, json.dumps(HARMFUL)[1:-1]):
        if secret in seen:
            broken.append(f"nothing early: {secret!r} reached the client")
    ends = _ends(doors, guarded.call_id)
    if len(ends) != 1:
        broken.append(f"nothing hidden: the record has {len(ends)} ends")
    return broken
