"""What was changed between the two ends of an exchange, part by part, and by whom."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from luthien_guard.query.change import Change, Diff, change
from luthien_guard.query.edits import Path, edits
from luthien_guard.query.response import response_changes
from luthien_guard.records import EventType
from luthien_guard.store import NONSENSE, Row

__all__ = ["Change", "Diff", "diff_of"]

_STOPS = (EventType.VERDICT.value, EventType.POLICY_ERROR.value)


def diff_of(call_id: str, rows: Sequence[Row]) -> Diff:
    """The difference that the rows of a call record. Raises ValueError where a row is no record (any more)."""
    try:
        return _diff(call_id, rows)
    except (*NONSENSE, KeyError) as error:
        raise ValueError(f"{call_id}: its rows were never written so: {error}") from None


def _diff(call_id: str, rows: Sequence[Row]) -> Diff:
    came = _last(rows, EventType.REQUEST_RECEIVED)
    sent = _last(rows, EventType.REQUEST_SENT)
    received = _last(rows, EventType.RESPONSE_RECEIVED)
    released = _last(rows, EventType.RESPONSE_RELEASED)
    notes = [
        f"the {what} was kept as hash and length only: there was no room"
        for what, facts in (("request", came), ("request as sent", sent), ("response", received), ("response as released", released))
        if facts is not None and facts.get("degraded")
    ]  # fmt: skip
    notes += _unsent(rows)
    request: list[Change] = []
    if _whole(came) and _whole(sent):
        request = list(_request(_json(came.get("body")), _json(sent.get("body")), _by_key(rows)))
    response: list[Change] = []
    if _whole(released) and (received is None or _whole(received)):
        response = list(response_changes(received or {}, released, rows))
    return Diff(call_id, tuple(request), tuple(response), tuple(notes))


def _unsent(rows: Sequence[Row]) -> list[str]:
    """What a request that its policies stopped has instead of changes."""
    said = ((row.policy, row.details) for row in rows if row.event_type in _STOPS)
    return [
        f"the request was not sent: {policy}: {facts.get('reason') or facts.get('error')}"
        for policy, facts in said
        if facts.get("enforced") and str(facts.get("hook")).startswith("on_request_")
    ]


def _whole(facts: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    return facts is not None and not facts.get("degraded")


def _last(rows: Sequence[Row], type: EventType) -> dict[str, Any] | None:
    return next((row.details for row in reversed(rows) if row.event_type == type.value), None)


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def _by_key(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Which policies changed which key of the request."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.event_type == EventType.CHANGED.value and row.policy:
            for key in row.details.get("request") or ():
                found.setdefault(key, []).append(row.policy)
    return {key: tuple(dict.fromkeys(names)) for key, names in found.items()}


def _request(before: Any, after: Any, by_key: Mapping[str, tuple[str, ...]]) -> Iterator[Change]:
    for edit in edits(before, after):
        actors = by_key.get(str(edit.path[0]), ()) if edit.path else ()
        yield change(_part(edit.path), edit.before, edit.after, actors)


def _part(path: Path) -> str:
    """`messages[2].content`"""
    names = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return names.removeprefix(".") or "body"
