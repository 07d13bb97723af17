"""Recorded exchanges, of a folder or of a store, and which of them fits a request best.

In a folder one JSON file each: `api` (the wire format), `stream`, `request{body}` (or null), `response{status, headers, body_text,
chunk_lens?, chunk_times?}`. `chunk_lens` are the bytes of each network read, `chunk_times` its seconds since the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.records import EventType
from luthien_guard.sinks.urls import open_store, shown
from luthien_guard.store import Call, CallFilter, Row
from luthien_guard.wire.formats import FORMATS

__all__ = ["Recording", "Shape", "best", "load", "shape_of"]

_MOST: Final = 1000  # the latest calls of a store
#: The providers whose traffic the official clients read without a murmur.
_OFFICIAL: Final = ("openai", "anthropic")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a request says which recording fits it."""

    model: str = ""
    last_text: str = ""
    messages: int = 0
    tools: frozenset[str] = frozenset()
    answers_a_call: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """One exchange; its body stays in the file until it is asked for."""

    id: str
    source: Callable[[], Mapping[str, Any]]
    wire_format: str
    stream: bool
    status: int
    official: bool
    shape: Shape | None

    def response(self) -> Mapping[str, Any]:
        """Read the file again."""
        return self.source()


def load(place: str) -> list[Recording]:
    """Every recording of a folder, or of the store with that URL, by id. Raises ConfigError when there is none."""
    if "://" in place:
        return _stored(place)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"replay: {folder} is no folder")
    found = [each for path in sorted(folder.glob("*.json")) if (each := _read(path)) is not None]
    if not found:
        raise ConfigError(f"replay: {folder} holds no recorded exchange")
    return found


def best(recordings: Iterable[Recording], wire_format: str, stream: bool, shape: Shape) -> Recording | None:
    """The successful recording that fits best; the first of several that fit alike, so that runs repeat."""
    fitting = [
        each
        for each in recordings
        if each.wire_format == wire_format and each.stream is stream and each.status == 200
    ]
    return max(fitting, key=lambda each: _score(each, shape), default=None)


def shape_of(body: Mapping[str, Any]) -> Shape:
    """The shape of a request in any wire format. Never raises on any JSON."""
    given = body.get("messages", body.get("input"))
    messages = given if isinstance(given, list) else [given]
    last = messages[-1] if messages else None
    tools = body.get("tools")
    names = (
        {_tool_name(tool) for tool in tools if isinstance(tool, dict)}
        if isinstance(tools, list)
        else set[str]()
    )
    return Shape(
        model=str(body.get("model", "")),
        last_text=_text(last),
        messages=len(messages),
        tools=frozenset(names),
        answers_a_call=_answers_a_call(last),
    )


def _read(path: Path) -> Recording | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    response = raw.get("response") if isinstance(raw, dict) else None
    if not isinstance(response, dict) or raw.get("api") not in FORMATS or not response.get("body_text"):
        return None
    body = (raw.get("request") or {}).get("body")
    return Recording(
        id=path.stem,
        source=lambda: json.loads(path.read_text(encoding="utf-8"))["response"],
        wire_format=raw["api"],
        stream=bool(raw.get("stream")),
        status=int(response.get("status", 200)),
        official=raw.get("provider") in _OFFICIAL,
        shape=shape_of(body) if isinstance(body, dict) else None,
    )


def _stored(url: str) -> list[Recording]:
    """The calls of a store of which every chunk was captured."""
    store = open_store(url)
    try:
        store.open()
        calls = store.calls(CallFilter(limit=_MOST))
        found = [each for call in calls if (each := _of_call(call, store.rows(call.call_id))) is not None]
    except SinkError as error:
        raise ConfigError(f"replay: {error}") from None
    finally:
        store.close()
    if not found:
        raise ConfigError(f"replay: {shown(url)} holds no call whose chunks were captured (capture_chunks)")
    return found


def _of_call(call: Call, rows: Sequence[Row]) -> Recording | None:
    facts = {row.event_type: row.details for row in rows}
    chunks = facts.get(EventType.RESPONSE_CHUNKS.value)
    if chunks is None or call.wire_format not in FORMATS or not chunks.get("body_text"):
        return None
    if chunks.get("missing"):  # it was longer than what is captured: its end is not there
        return None
    try:
        body = json.loads(facts[EventType.REQUEST_RECEIVED.value]["body"])
    except (KeyError, TypeError, ValueError):
        body = None
    return Recording(
        id=call.call_id,
        source=lambda: chunks,
        wire_format=str(call.wire_format),
        stream=bool(chunks["stream"]),
        status=int(chunks["status"]),
        official=False,
        shape=shape_of(body) if isinstance(body, dict) else None,
    )


def _score(recording: Recording, wanted: Shape) -> float:
    score = 3.0 if recording.official else 0.0
    had = recording.shape
    if had is None:
        return score - 1
    score += 20 * (had.last_text == wanted.last_text != "")
    score += 8 * (had.model == wanted.model)
    score += 10 * (had.answers_a_call == wanted.answers_a_call)
    score += 2 * (had.messages == wanted.messages)
    either = had.tools | wanted.tools
    return score + 10 * (len(had.tools & wanted.tools) / len(either) if either else 1)


def _tool_name(tool: Mapping[str, Any]) -> str:
    inner = tool.get("function")
    return str(tool.get("name") or (inner.get("name") if isinstance(inner, dict) else "") or tool.get("type"))


def _answers_a_call(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    if message.get("role") == "tool" or str(message.get("type", "")).endswith("_call_output"):
        return True
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(b, dict) and b.get("type") == "tool_result" for b in content
    )


def _text(message: Any) -> str:
    if isinstance(message, str):
        return message
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    blocks: Sequence[Any] = content if isinstance(content, list) else ()
    return "".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))
