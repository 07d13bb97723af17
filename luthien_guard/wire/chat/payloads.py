"""What an entry of `tool_calls` wants to have run."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import ToolKind

__all__ = [
    "ENTRY",
    "KEYS",
    "REST",
    "begins_anew",
    "is_blank",
    "is_foreign",
    "kind_of",
    "payload_of",
    "rest_of",
]

#: The member that holds a payload -> the keys of its name and of its arguments.
KEYS: Final = {"function": ("name", "arguments"), "custom": ("name", "input")}
#: Stands for the member's name where no codec knows the payload: everything but these is its arguments.
REST: Final = "*"
ENTRY: Final = frozenset({"id", "type", "index"})


def payload_of(entry: dict[str, Any]) -> str:
    """Where an entry has its payload: "function", "custom" or REST; "" where it has none (yet). With several of them
    the one that its type names."""
    kind = entry.get("type")
    if type(kind) is str and type(entry.get(kind)) is dict and kind not in ENTRY:
        return kind if kind in KEYS else REST
    for where in KEYS:
        if _says_something(entry.get(where)):
            return where
    if any(one is not None for one in rest_of(entry).values()):
        return REST
    return next((where for where in KEYS if type(entry.get(where)) is dict), "")


def kind_of(where: str) -> ToolKind:
    """What is called there."""
    if where == "custom":
        return "custom"
    return "unknown" if where == REST else "function"


def begins_anew(entry: dict[str, Any]) -> bool:
    """It names what it wants to have run, as only the first fragment of a call does."""
    where = payload_of(entry)
    return where == REST or (where != "" and not is_blank(entry[where].get(KEYS[where][0])))


def is_blank(name: Any) -> bool:
    """No name, or no id, for clients that strip it. JavaScript strips a byte-order mark, too."""
    return type(name) is not str or not name.replace("\ufeff", "").strip()


def is_foreign(entry: dict[str, Any], key: str, where: str) -> bool:
    """A second payload. Some clients would run that one and not the one that policies judge: it may not leave."""
    if key == where or not _says_something(entry[key]):
        return False
    return key in KEYS or (where != REST and key == entry.get("type"))


def rest_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call that no codec knows."""
    return {
        key: one for key, one in entry.items() if key not in ENTRY and not (key in KEYS and type(one) is dict)
    }


def _says_something(payload: Any) -> bool:
    """Servers that write out every field they know of send empty payloads, too."""
    return type(payload) is dict and any(one is not None and one != "" for one in payload.values())
