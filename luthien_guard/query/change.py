"""What a difference is called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from luthien_guard.query.edits import MISSING

__all__ = ["Change", "Diff", "change"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `part` says where ("messages[2].content", "choice 0 content", "choice 0 tool call bash"); of
    `before` and `after` the one that is not there is None; other values than strings stand there as JSON. `policies`
    made it, as far as the record says."""

    part: str
    kind: Literal["changed", "added", "removed"]
    before: str | None
    after: str | None
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes of a call, in the order of the parts. `notes` say what could not be compared, or was
    not sent, and why."""

    call_id: str
    request: tuple[Change, ...]
    response: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.request or self.response)


def change(part: str, before: Any, after: Any, policies: tuple[str, ...]) -> Change:
    """The change from one value to the other; MISSING is none at all."""
    kind: Literal["changed", "added", "removed"] = "changed"
    if before is MISSING or after is MISSING:
        kind = "added" if before is MISSING else "removed"
    return Change(part, kind, _text(before), _text(after), policies)


def _text(value: Any) -> str | None:
    if value is MISSING:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
