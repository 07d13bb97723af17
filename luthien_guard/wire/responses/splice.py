"""Changes in the raw bytes of an event: the fast way for flat events, the sure way for everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import DELETE, Raw, dumps
from luthien_guard.wire.splice import patch_data

__all__ = ["applied", "delta_spliced", "spliced"]

_VALUE: Final = re.compile(rb'[ \t]*("(?:[^"\\]|\\.)*"|-?[0-9]+(?![0-9.eE]))', re.DOTALL)
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_DELTA: Final = b'"delta":'


def delta_spliced(chunk: Chunk, old: str, new: str) -> bytes | None:
    """The raw bytes of a flat event with the text of its `delta` replaced; None where that is not plain to see. The
    short way of `spliced` for what rewriting policies make of nearly every event."""
    raw = chunk.raw
    at = raw.find(_DELTA)
    if at < 0 or raw.find(_DELTA, at + 1) >= 0 or not _is_flat(chunk):
        return None
    at += len(_DELTA)
    if raw[at] == 0x20:
        at += 1
    was = encode_basestring(old).encode()
    if not raw.startswith(was, at):
        was = encode_basestring_ascii(old).encode()
        if not raw.startswith(was, at):
            return None
    text = encode_basestring(new) if new.isascii() else dumps(new)
    return raw[:at] + text.encode() + raw[at + len(was) :]


def spliced(chunk: Chunk, changes: Mapping[Path, Any]) -> bytes:
    """The chunk's raw bytes with the values at these paths of its JSON changed, and nothing else."""
    quick = _quick(chunk, changes) if len(changes) < 4 and chunk.kind == "data" else None
    return patch_data(chunk, changes) if quick is None else quick


def _quick(chunk: Chunk, changes: Mapping[Path, Any]) -> bytes | None:
    """None where `"key":` could be anything but the member of that name of the one object in the frame: in a nested
    object, in a comment, in the name of the event. Inside a string its quotes would be escaped."""
    if not _is_flat(chunk):
        return None
    data, raw = chunk.data, chunk.raw
    for path, new in changes.items():
        name = path[0]
        if len(path) != 1 or type(data.get(name)) not in (str, int) or type(new) not in (str, int):
            return None
        needle = b'"%s":' % str(name).encode()
        at = raw.find(needle)
        if at < 0 or raw.find(needle, at + 1) >= 0:
            return None
        found = _VALUE.match(raw, at + len(needle))
        if found is None:
            return None
        raw = raw[: found.start(1)] + dumps(new).encode() + raw[found.end(1) :]
    return raw


def _is_flat(chunk: Chunk) -> bool:
    if chunk.ignored or (chunk.event is not None and '"' in chunk.event):
        return False
    for value in chunk.data.values():  # noqa: SIM110 -- a loop, not `all`: this runs for every event that a policy rewrites
        if type(value) not in _PLAIN and value != []:
            return False
    return True


def applied(value: Any, changes: Mapping[Path, Any]) -> Any:
    """The parsed JSON with the same changes; the original stays as it is."""
    for path, new in sorted(changes.items(), key=_last_first):
        value = _set(value, path, new)
    return value


def _last_first(change: tuple[Path, Any]) -> tuple[int, ...]:
    """Elements go from the end of their list, so that the others keep their places."""
    return tuple(-key if isinstance(key, int) else 0 for key in change[0])


def _set(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[key] = _set(value[key], rest, new)
    elif new is DELETE:
        del copy[key]
    else:
        assert not isinstance(new, Raw)
        copy[key] = new
    return copy
