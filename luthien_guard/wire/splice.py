"""Changes in the raw bytes of a chunk: the fast way for one string, the sure way for everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import patch, string_text

__all__ = ["patch_chunk", "patch_data", "replace_string", "span_of"]

_STRING: Final = re.compile(rb'[ \t]*:[ \t]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_DATA: Final = re.compile(rb"(?:\A|(?<=[\r\n]))data: ?([^\r\n]*)")


def span_of(raw: bytes, key: bytes) -> tuple[int, int] | None:
    """Where the string value of the only member `key` begins and ends, quotes included; None when it is not the only
    one.

    Inside a JSON string every quote is escaped, so `"key"` with no backslash before it and a colon behind it is the
    name of a member.
    """
    if b"\\u00" in raw:  # the member that is meant may be spelled with escapes, and another one without
        return None
    needle = b'"' + key + b'"'  # without its colon: white space may stand before that
    at = raw.find(needle)
    if at < 1 or raw[at - 1] == 0x5C or raw.find(needle, at + 1) >= 0:
        return None
    found = _STRING.match(raw, at + len(needle))
    return found.span(1) if found is not None else None


def replace_string(raw: bytes, key: bytes, new: str) -> bytes | None:
    """`raw` with the string value of its only member `key` replaced; None when it is not the only one."""
    span = span_of(raw, key)
    if span is None:
        return None
    return raw[: span[0]] + string_text(new).encode() + raw[span[1] :]


def patch_chunk(chunk: Chunk, changes: Mapping[Path, Any]) -> bytes:
    """The chunk's raw bytes with the values at these paths of its JSON changed, and nothing else."""
    if len(changes) == 1:
        ((path, value),) = changes.items()
        if type(value) is str and path and isinstance(path[-1], str) and _is_string(chunk.data, path):
            quick = replace_string(chunk.raw, path[-1].encode(), value)
            if quick is not None:
                return quick
    return patch_data(chunk, changes)


def patch_data(chunk: Chunk, changes: Mapping[Path, Any]) -> bytes:
    """The sure way: whatever the changes are."""
    if chunk.kind == "body":
        return patch(chunk.raw.decode(), changes).encode()
    found = _DATA.search(chunk.raw)
    assert found is not None, "a data chunk has a data line"
    text = patch(found.group(1).decode(), changes).encode()
    return chunk.raw[: found.start(1)] + text + chunk.raw[found.end(1) :]


def _is_string(data: Any, path: Path) -> bool:
    """A member that is not there yet is added, and one of the same name elsewhere is none of our business."""
    for key in path:
        if not isinstance(data, (dict, list)):
            return False
        try:
            data = data[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(data, str)
