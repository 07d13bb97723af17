"""What was changed between the two ends of an exchange, part by part, and by whom."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, Literal

from luthien_guard.records import EventType
from luthien_guard.store import Row

__all__ = ["Change", "Diff", "diff_of"]

_LISTS: Final = ("messages", "input", "tools", "functions")  # compared item by item


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `part` says where ("messages[2].content", "choice 0 content", "choice 0 tool call bash"); of
    `before` and `after` the one that is not there is None; `policies` made it, as far as the record says."""

    part: str
    kind: Literal["changed", "added", "removed"]
    before: str | None
    after: str | None
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes of a call, in the order of the parts."""

    call_id: str
    request: tuple[Change, ...]
    response: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.request or self.response)


def diff_of(call_id: str, rows: Sequence[Row]) -> Diff:
    """The difference that the rows of a call record."""
    came = _last(rows, EventType.REQUEST_RECEIVED)
    sent = _last(rows, EventType.REQUEST_SENT)
    received = _last(rows, EventType.RESPONSE_RECEIVED)
    released = _last(rows, EventType.RESPONSE_RELEASED)
    request: list[Change] = []
    if came is not None and sent is not None:
        request = list(_request(_json(came.get("body")), _json(sent.get("body")), _by_key(rows)))
    response: list[Change] = []
    if released is not None:
        response = list(_response(received or {}, released, _Actors(rows)))
    return Diff(call_id, tuple(request), tuple(response))


def _last(rows: Sequence[Row], type: EventType) -> dict[str, Any] | None:
    return next((row.details for row in reversed(rows) if row.event_type == type.value), None)


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


# -- the request -------------------------------------------------------------------------------------------------------


def _by_key(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Which policies changed which key of the request."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.event_type == EventType.CHANGED.value and row.policy:
            for key in row.details.get("request") or ():
                found.setdefault(key, []).append(row.policy)
    return {key: tuple(dict.fromkeys(names)) for key, names in found.items()}


def _request(before: Any, after: Any, by_key: Mapping[str, tuple[str, ...]]) -> Iterator[Change]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        yield from _values("body", before, after, ())
        return
    for key in dict.fromkeys([*before, *after]):
        actors = by_key.get(key, ())
        old, new = before.get(key), after.get(key)
        if key in _LISTS and isinstance(old, list) and isinstance(new, list):
            yield from _items(key, old, new, actors)
        else:
            yield from _values(key, old, new, actors)


def _items(part: str, before: list[Any], after: list[Any], actors: tuple[str, ...]) -> Iterator[Change]:
    """Items that were put in or taken out are named as such; those that took each other's place are compared."""
    old, new = ([json.dumps(item, sort_keys=True) for item in items] for items in (before, after))
    for op, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if op == "equal":
            continue
        pairs = min(b - a, d - c)
        for at in range(pairs):
            yield from _values(f"{part}[{a + at}]", before[a + at], after[c + at], actors)
        for at in range(a + pairs, b):
            yield Change(f"{part}[{at}]", "removed", _text(before[at]), None, actors)
        for at in range(c + pairs, d):
            yield Change(f"{part}[{at}]", "added", None, _text(after[at]), actors)


def _values(part: str, before: Any, after: Any, actors: tuple[str, ...]) -> Iterator[Change]:
    """Down to the strings, numbers and so on that differ."""
    if before == after and type(before) is type(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _values(f"{part}.{key}", before.get(key), after.get(key), actors)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _values(f"{part}[{at}]", old, new, actors)
    else:
        yield _change(part, _text(before), _text(after), actors)


def _change(part: str, before: str | None, after: str | None, actors: tuple[str, ...]) -> Change:
    kind: Literal["changed", "added", "removed"] = (
        "added" if before is None else "removed" if after is None else "changed"
    )
    return Change(part, kind, before, after, actors)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- the response ------------------------------------------------------------------------------------------------------


class _Actors:
    """Who touched which piece of the response."""

    def __init__(self, rows: Sequence[Row]) -> None:
        kinds = (EventType.CHANGED.value, EventType.VERDICT.value, EventType.POLICY_ERROR.value)
        self._facts = [(row, row.details) for row in rows if row.event_type in kinds and row.policy]

    def of_text(self, choice: int, channel: str) -> tuple[str, ...]:
        return self._names(lambda facts: facts.get("channel") == channel and facts.get("choice") == choice)

    def of_call(self, id: str) -> tuple[str, ...]:
        return self._names(
            lambda facts: id in (facts.get("tool_call"), facts.get("call_id")) or "tool_call" in facts
        )

    def of_end(self) -> tuple[str, ...]:
        return self._names(lambda facts: "verdict" in facts and facts.get("enforced", True)) or self._names(
            lambda facts: "error" in facts
        )

    def _names(self, concerns: Any) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(row.policy for row, facts in self._facts if row.policy and concerns(facts))
        )


def _response(before: Mapping[str, Any], after: Mapping[str, Any], actors: _Actors) -> Iterator[Change]:
    old, new = _by_choice(before), _by_choice(after)
    for number in sorted({*old, *new}):
        yield from _choice(number, old.get(number, {}), new.get(number, {}), actors)
    for said in after.get("said") or ():
        yield Change("said by the guard", "added", None, said, actors.of_end())


def _by_choice(side: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    return {choice["choice"]: choice for choice in side.get("choices") or ()}


def _choice(
    number: int, before: Mapping[str, Any], after: Mapping[str, Any], actors: _Actors
) -> Iterator[Change]:
    old, new = _texts(before), _texts(after)
    for channel, index in dict.fromkeys([*old, *new]):
        texts = old.get((channel, index)), new.get((channel, index))
        if texts[0] != texts[1]:
            by = actors.of_text(number, channel) or actors.of_end()
            yield _change(f"choice {number} {channel}", *texts, by)
    calls, left = _calls(before), _calls(after)
    for id in dict.fromkeys([*calls, *left]):
        one, other = calls.get(id), left.get(id)
        if one != other:
            name = (one or other or {}).get("name")
            shown = [
                None if each is None else f"{each['name']}({each['arguments']})" for each in (one, other)
            ]
            yield _change(f"choice {number} tool call {name}", shown[0], shown[1], actors.of_call(id))
    reasons = before.get("finish_reason"), after.get("finish_reason")
    if reasons[0] != reasons[1]:
        yield _change(f"choice {number} finish reason", *reasons, actors.of_end())


def _texts(choice: Mapping[str, Any]) -> dict[tuple[str, int], str]:
    """Texts of a choice by channel and number; parts that have the same are one text."""
    found: dict[tuple[str, int], str] = {}
    for each in choice.get("texts") or ():
        key = (each["channel"], each["index"])
        found[key] = found.get(key, "") + each["text"]
    return found


def _calls(choice: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each.get("id") or f"#{at}": each for at, each in enumerate(choice.get("tool_calls") or ())}
