"""What a response body is: a stream of events or one body. The bytes say so; the request never does.

A body that a JSON reader would take is judged as JSON whatever its content type says, and the same for SSE: what the
label says matters only where the bytes fit both or neither.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_event_stream", "says_event_stream"]

_FIELD: Final = re.compile(rb":|(?:data|event|id|retry)(?:[:\r\n]|\Z)")
_PREFIX: Final = tuple(
    name[:length] for name in (b"data", b"event", b"id", b"retry") for length in range(1, len(name))
)
_PATIENCE: Final = 65536  # blank bytes before the label decides


def says_event_stream(content_type: bytes) -> bool:
    return content_type.split(b";", 1)[0].strip().lower() == b"text/event-stream"


def is_event_stream(head: bytes, *, labelled: bool, last: bool) -> bool | None:
    """None: not enough bytes yet."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if not text:
        return labelled if last or len(head) > _PATIENCE else None
    if text in (b"data", b"event", b"id", b"retry", *_PREFIX) and not last:
        return None
    if _FIELD.match(text):
        return True
    return labelled and text[:1] not in b'{["'
