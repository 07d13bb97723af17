"""Output items: what each kind of item says, and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from luthien_guard.events import Channel, ToolKind
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import dumps

__all__ = ["CALLS", "ENVELOPE", "Call", "Said", "call_of", "texts_of"]

#: Calls: the kind, and the fields that are its arguments. One that is a string is taken as it is, others as JSON.
CALLS: Final[dict[str, tuple[ToolKind, tuple[str, ...]]]] = {
    "function_call": ("function", ("arguments",)),
    "custom_tool_call": ("custom", ("input",)),
    "mcp_call": ("mcp", ("arguments",)),
    "mcp_approval_request": ("mcp", ("arguments",)),
    "code_interpreter_call": ("code_interpreter", ("code",)),
    "computer_call": ("computer", ("action", "actions")),
    "shell_call": ("shell", ("action",)),
    "local_shell_call": ("shell", ("action",)),
    "apply_patch_call": ("shell", ("operation",)),
    "web_search_call": ("server", ("action",)),
    "file_search_call": ("server", ("queries",)),
    "image_generation_call": ("server", ("revised_prompt",)),
    "tool_search_call": ("server", ("arguments",)),
}
#: Strings of an item that are identifiers or enumerations while they look like it.
ENVELOPE: Final = frozenset(
    {"id", "type", "status", "role", "call_id", "item_id", "object", "server_label", "container_id", "phase", "model",
     "service_tier", "namespace", "execution", "response_id"}
)  # fmt: skip


class Said(NamedTuple):
    """A text of an item: which one of its texts (`key`), where it stands, and what hangs on it."""

    key: tuple[str, Any]
    channel: Channel
    path: Path
    text: str
    part: Path  # the object that the text is a field of


class Call(NamedTuple):
    """A call item: `arguments` as one string, at `path` (of a string, or of JSON where `is_json`)."""

    kind: ToolKind
    name: str
    arguments: str
    path: Path
    is_json: bool
    fields: tuple[str, ...]


def texts_of(item: dict[str, Any], path: Path) -> Iterator[Said]:
    """The texts of a message or reasoning item."""
    for field, kinds in (("content", _PARTS), ("summary", _SUMMARIES)):
        parts = item.get(field)
        for at, part in enumerate(parts if isinstance(parts, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            found = kinds.get(kind) if isinstance(kind, str) else None
            if found is not None and isinstance(part.get(found[0]), str):
                place = (*path, field, at)
                yield Said((found[1], at), found[2], (*place, found[0]), part[found[0]], place)


_PARTS: Final[dict[str, tuple[str, str, Channel]]] = {
    "output_text": ("text", "text", "content"),
    "text": ("text", "text", "content"),
    "refusal": ("refusal", "refusal", "refusal"),
    "reasoning_text": ("text", "reasoning", "reasoning"),
    "output_audio": ("transcript", "audio", "audio_transcript"),
}
_SUMMARIES: Final[dict[str, tuple[str, str, Channel]]] = {"summary_text": ("text", "summary", "reasoning")}


def call_of(item: dict[str, Any], path: Path) -> Call | None:
    """The call that an item is, if it is one. An item that looks like a call and that nobody knows is one whose
    arguments are all of its fields."""
    kind = item.get("type")
    if not isinstance(kind, str) or not (kind in CALLS or kind.endswith("_call")):
        return None
    name = item.get("name")
    tool = name if isinstance(name, str) and name else kind
    known = CALLS.get(kind)
    if known is None:
        rest = {key: value for key, value in item.items() if key not in ENVELOPE}
        return Call("unknown", tool, dumps(rest), path, is_json=True, fields=tuple(rest))
    tool_kind, fields = known
    present = [field for field in fields if item.get(field) not in (None, "", [], {})]
    if not present:
        return Call(tool_kind, tool, "", (*path, fields[0]), is_json=False, fields=fields)
    if len(present) == 1:
        value = item[present[0]]
        is_json = not isinstance(value, str)
        text = dumps(value) if is_json else value
        return Call(tool_kind, tool, text, (*path, present[0]), is_json=is_json, fields=fields)
    together = {field: item[field] for field in present}
    return Call(tool_kind, tool, dumps(together), (*path, present[0]), is_json=True, fields=fields)
