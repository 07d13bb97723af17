"""What may leave when: one table for whatever a policy or the guard itself makes up."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from luthien_guard.wire.responses.calls import is_call
from luthien_guard.wire.responses.changes import illegal
from luthien_guard.wire.responses.sent import Sent
from luthien_guard.wire.responses.tables import CALL_EVENTS, DELTAS, DONES, PREVIEWS, PROGRESS, TERMINAL

__all__ = ["check"]


class Rule(NamedTuple):
    """What must hold before an event: the response `begun` or not (None: either); its item `new` or `open` ("": it
    speaks of none), of one of the kinds `of`; the member that it carries."""

    begun: bool | None = True
    item: str = ""
    of: str = ""
    carries: str = ""


#  event                       begun  item    of           carries
RULES: Final[dict[str, Rule]] = {
    "response.created": Rule(False, carries="response"),
    "response.queued": Rule(True, carries="response"),
    "response.in_progress": Rule(True, carries="response"),
    **dict.fromkeys(TERMINAL - {"response.done"}, Rule(True, carries="response")),
    "response.output_item.added": Rule(True, "new", "", "item"),
    "response.output_item.done": Rule(True, "open", "", "item"),
    "response.content_part.added": Rule(True, "open", "message reasoning", "part"),
    "response.content_part.done": Rule(True, "open", "message reasoning", "part"),
    "response.reasoning_summary_part.added": Rule(True, "open", "reasoning", "part"),
    "response.reasoning_summary_part.done": Rule(True, "open", "reasoning", "part"),
    "response.output_text.annotation.added": Rule(True, "open", "message", "annotation"),
    **{
        kind: Rule(True, "open", "message reasoning", event.field) for kind, event in (DELTAS | DONES).items()
    },
    **{f"{kind}.delta": Rule(True, "open", "call", "delta") for kind in (CALL_EVENTS | PREVIEWS)},
    **{
        f"{kind}.done": Rule(True, "open", "call", event[1])
        for kind, event in (CALL_EVENTS | PREVIEWS).items()
    },
    **{kind: Rule(True, "open") for kind in PROGRESS if "_call." in kind or "mcp_list" in kind},
    "response.audio.delta": Rule(),
    "response.audio.done": Rule(),
    "response.audio.transcript.delta": Rule(),
    "response.audio.transcript.done": Rule(),
    "error": Rule(None),
    "keepalive": Rule(None),
}


def check(data: Any, event: str | None, sent: Sent) -> str:
    """The type of an event that somebody made up and that may leave now. Raises IllegalOutput."""
    kind = data.get("type") if isinstance(data, dict) else None
    rule = RULES.get(kind) if isinstance(kind, str) else None
    if rule is None or not isinstance(kind, str):
        raise illegal(f"no event of type {kind!r}"[:200])
    if event is not None and event != kind:
        raise illegal(f"{kind} in an event named {event!r}"[:200])
    if sent.ended:
        raise illegal(f"{kind} after the end")
    if rule.begun is not None and sent.begun is not rule.begun:
        raise illegal(f"{kind} {'after' if sent.begun else 'before'} response.created")
    if rule.carries and type(data.get(rule.carries)) not in (str, dict):
        raise illegal(f"{kind} without {rule.carries}")
    if rule.item:
        _check_item(kind, data, rule, sent)
    return kind


def _check_item(kind: str, data: dict[str, Any], rule: Rule, sent: Sent) -> None:
    index = data.get("output_index")
    if type(index) is not int or index < 0:
        raise illegal(f"{kind} without an output_index")
    item = sent.items.get(index)
    if rule.item == "new":
        if item is not None:
            raise illegal(f"a second item at output_index {index}")
        return
    if item is None or item.done:
        raise illegal(f"{kind} for an item that is not open")
    found = item.item.get("type")
    if rule.of and not (rule.of == "call" and is_call(found)) and found not in rule.of.split():
        raise illegal(f"{kind} for an item of type {found!r}"[:200])
