"""The hot path of a changed text: one string in a small event, put in place without parsing the event again."""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import Final

from luthien_guard.wire.json_text import dumps

__all__ = ["spliced"]

_KEYS: Final = {key: f'"{key}":"'.encode() for key in ("text", "thinking", "partial_json")}


def _encoded(text: str) -> bytes:
    if text.isascii():
        return encode_basestring(text).encode()
    return dumps(text).encode()  # escapes what some readers take for a line end


def spliced(raw: bytes, key: str, old: str, new: str) -> bytes | None:
    """`raw` with the member `key` saying `new` where it says `old`. None where that place is not beyond doubt: the
    key stands there twice or spelled in another way, or upstream escapes `old` as we would not."""
    needle = _KEYS[key]
    at = raw.find(needle)
    if at < 1 or raw.find(needle[:-1], at + 1) >= 0:
        return None
    at += len(needle) - 1
    before = _encoded(old)
    if not raw.startswith(before, at):
        return None
    return raw[:at] + _encoded(new) + raw[at + len(before) :]
