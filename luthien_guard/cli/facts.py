"""How a row of the store reads. Everything in it may come from a stranger, its shape too: somebody may have tampered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from luthien_guard.cli.terminal import printable
from luthien_guard.records import EventType
from luthien_guard.store import Row

__all__ = ["clock", "details_of", "jsonable", "line", "told"]

_WIDTH: Final = 120
_TELLING: Final = (
    "reason",
    "error",
    "outcome",
    "event",
    "model",
    "verdict",
    "channel",
    "status",
    "usage",
    "unreadable",
)


def clock(at: Any) -> str:
    """A moment as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "-"


def details_of(row: Row) -> dict[str, Any]:
    """The payload; where it is not what is ever written, its text under "unreadable"."""
    try:
        found = json.loads(row.payload)
    except (ValueError, TypeError, RecursionError):
        return {"unreadable": str(row.payload)}
    return found if isinstance(found, dict) else {"unreadable": str(row.payload)}


def jsonable(row: Row) -> dict[str, Any]:
    """The row's columns, with the payload as the object that it is."""
    return {**asdict(row), "payload": details_of(row)}


def line(row: Row) -> str:
    """A row on one line: when, which call, what, whose, and the most telling of its details."""
    who = f" {row.policy}" if row.policy else ""
    shown = f"{clock(row.at)}  {str(row.call_id)[-12:]}  {row.event_type}{who}  {told(row)}"
    return printable(shown.rstrip())


def told(row: Row) -> str:
    """The most telling of its details."""
    details = details_of(row)
    tell = _TELLS.get(row.event_type, _telling)
    text = tell(details) or _telling(details)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _telling(details: Mapping[str, Any]) -> str:
    return str(next((details[key] for key in _TELLING if details.get(key)), ""))


def _request(details: Mapping[str, Any]) -> str:
    words = [details.get("model"), details.get("wire_format"), details.get("stream") and "stream"]
    return " ".join(str(word) for word in words if word)


def _verdict(details: Mapping[str, Any]) -> str:
    piece = details.get("tool") or details.get("channel")
    about = f" ({piece})" if piece else ""
    shadow = "" if details.get("enforced", True) else " [shadow: not enforced]"
    return f"{details.get('verdict')}{about}{shadow}: {details.get('reason')}"


def _changed(details: Mapping[str, Any]) -> str:
    if isinstance(details.get("request"), list):
        return "request: " + ", ".join(map(str, details["request"]))
    if "tool_call" in details:
        became = " became text" if details.get("to") == "text" else ""
        return f"tool call {details.get('tool')} {details['tool_call']}{became}"
    return f"choice {details.get('choice')} {details['channel']}" if "channel" in details else ""


def _closed(details: Mapping[str, Any]) -> str:
    reason = details.get("reason")
    return f"{details.get('outcome')}" + (f": {reason}" if reason else "")


_TELLS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    EventType.REQUEST_RECEIVED.value: _request,
    EventType.VERDICT.value: _verdict,
    EventType.CHANGED.value: _changed,
    EventType.CLOSED.value: _closed,
}
