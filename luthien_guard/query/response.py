"""The difference between the response that came and the one that left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from luthien_guard.query.change import Change, change
from luthien_guard.query.edits import MISSING
from luthien_guard.records import EventType
from luthien_guard.store import Row

__all__ = ["response_changes"]

Facts = Mapping[str, Any]


def response_changes(before: Facts, after: Facts, rows: Sequence[Row]) -> Iterator[Change]:
    """Per choice: texts by channel, tool calls, the finish reason; then what the guard said itself. `rows` tell who."""
    actors = _Actors(rows)
    old, new = _by_choice(before), _by_choice(after)
    for number in sorted({*old, *new}):
        yield from _texts(number, old.get(number, {}), new.get(number, {}), actors)
        yield from _calls(number, old.get(number, {}), new.get(number, {}), actors)
        yield from _reason(number, old.get(number, {}), new.get(number, {}), actors)
    for said in after.get("said") or ():
        yield change("said by the guard", MISSING, said, actors.of_end())


def _by_choice(side: Facts) -> dict[int, Facts]:
    return {choice["choice"]: choice for choice in side.get("choices") or ()}


def _texts(number: int, before: Facts, after: Facts, actors: _Actors) -> Iterator[Change]:
    old, new = _by_channel(before), _by_channel(after)
    keys = list(dict.fromkeys([*old, *new]))
    several = Counter(channel for channel, _ in keys)
    for channel, index in keys:
        one, other = old.get((channel, index), MISSING), new.get((channel, index), MISSING)
        if one != other:
            part = f"choice {number} {channel}" + (f" {index}" if several[channel] > 1 else "")
            yield change(part, one, other, actors.of_text(number, channel, index))


def _by_channel(choice: Facts) -> dict[tuple[str, int], str]:
    """Texts of a choice by channel and number; parts that have the same are one text."""
    found: dict[tuple[str, int], str] = {}
    for each in choice.get("texts") or ():
        key = (each["channel"], each["index"])
        found[key] = found.get(key, "") + each["text"]
    return found


def _calls(number: int, before: Facts, after: Facts, actors: _Actors) -> Iterator[Change]:
    old, new = _by_id(before), _by_id(after)
    for id in dict.fromkeys([*old, *new]):
        one, other = old.get(id), new.get(id)
        if one != other:
            part = f"choice {number} tool call {(one or other or {}).get('name')}"
            yield change(part, _shown(one), _shown(other), actors.of_call(number, id[0]))


def _by_id(choice: Facts) -> dict[tuple[str, int], Facts]:
    """By id, and for ids that upstream gave twice (or not at all) by number."""
    seen: Counter[str] = Counter()
    found: dict[tuple[str, int], Facts] = {}
    for each in choice.get("tool_calls") or ():
        id = each.get("id") or ""
        found[id, seen[id]] = each
        seen[id] += 1
    return found


def _shown(call: Facts | None) -> Any:
    if call is None:
        return MISSING
    kind = call.get("kind")
    return f"{call['name']}({call['arguments']})" + (f" [{kind}]" if kind not in (None, "function") else "")


def _reason(number: int, before: Facts, after: Facts, actors: _Actors) -> Iterator[Change]:
    one, other = before.get("finish_reason"), after.get("finish_reason")
    if one != other:
        yield change(f"choice {number} finish reason", _or_missing(one), _or_missing(other), actors.of_end())


def _or_missing(value: Any) -> Any:
    return MISSING if value is None else value


class _Actors:
    """Who touched which piece of the response."""

    def __init__(self, rows: Sequence[Row]) -> None:
        kinds = (EventType.CHANGED.value, EventType.VERDICT.value, EventType.POLICY_ERROR.value)
        self._facts = [(row.policy, row.details) for row in rows if row.event_type in kinds and row.policy]

    def of_text(self, choice: int, channel: str, index: int) -> tuple[str, ...]:
        return self._of({"choice": choice, "channel": channel, "index": index})

    def of_call(self, choice: int, id: str) -> tuple[str, ...]:
        return self._of({"choice": choice, "tool_call": id})

    def _of(self, piece: Facts) -> tuple[str, ...]:
        """Where nobody is on record for this piece, it was who changed whole chunks, or what ended the answer."""
        found = self._names(lambda facts: piece.items() <= facts.items())
        if found:
            return found
        return tuple(dict.fromkeys([*self._names(lambda facts: "chunk" in facts), *self.of_end()]))

    def of_end(self) -> tuple[str, ...]:
        found = self._names(lambda facts: "verdict" in facts)
        return found or self._names(lambda facts: "error" in facts)

    def _names(self, concerns: Callable[[Facts], bool]) -> tuple[str, ...]:
        """A policy in shadow said what it would do, and did nothing."""
        found = (policy for policy, facts in self._facts if facts.get("enforced", True) and concerns(facts))
        return tuple(dict.fromkeys(found))
