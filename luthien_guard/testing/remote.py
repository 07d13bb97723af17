"""A control plane on the far side of JSON: proof that everything which crosses the seam can leave the process.

`JsonPlane(plane)` stands between a shell and a plane. Every argument and every result becomes JSON text and is made
anew from it, so a live object that slipped into the seam does not get through.
"""

from __future__ import annotations

import base64
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin

from luthien_guard.control_plane.service import (
    Answer,
    ControlPlaneService,
    GuardedStream,
    PolicyResult,
    Release,
    RequestDecision,
    StreamingContext,
)
from luthien_guard.exchange import Outcome, RequestMetadata

__all__ = ["JsonPlane", "JsonStream"]

T = TypeVar("T")


def crossed(value: Any, kind: Any) -> Any:
    """The value after a trip through JSON text. Raises TypeError for what JSON cannot carry."""
    return _read(json.loads(json.dumps(_plain(value), allow_nan=False)), kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    raise TypeError(f"a live {type(value).__name__} crosses the seam")


def _read(data: Any, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if data is None or kind is Any or isinstance(kind, TypeVar):
        return data
    if origin in (Union, types.UnionType):
        return _read(data, next(each for each in arguments if each is not type(None)))
    if kind is bytes:
        return base64.b64decode(data)
    if origin is tuple:
        inner = [arguments[0]] * len(data) if arguments[-1] is ... else arguments
        return tuple(_read(one, each) for one, each in zip(data, inner, strict=True))
    made = origin or kind
    if is_dataclass(made):
        hints = typing.get_type_hints(made)
        given = {name: arguments[0] if isinstance(hint, TypeVar) else hint for name, hint in hints.items()}
        return made(**{name: _read(one, given[name]) for name, one in data.items()})  # type: ignore[operator]
    return kind(data) if isinstance(kind, type) and issubclass(kind, Enum) else data


class JsonPlane:
    """Implements `ControlPlaneService` on top of another one."""

    def __init__(self, plane: ControlPlaneService) -> None:
        self.plane = plane

    async def decide_request(
        self, metadata: RequestMetadata, wire_format: str, body: bytes
    ) -> PolicyResult[RequestDecision]:
        result = await self.plane.decide_request(
            crossed(metadata, RequestMetadata), wire_format, crossed(body, bytes)
        )
        found: PolicyResult[RequestDecision] = crossed(result, PolicyResult[RequestDecision])
        return found

    async def open_stream(self, context: StreamingContext) -> GuardedStream:
        return JsonStream(await self.plane.open_stream(crossed(context, StreamingContext)))

    async def close(self, call_id: str, outcome: Outcome | None = None) -> Outcome:
        found: Outcome = crossed(await self.plane.close(call_id, crossed(outcome, Outcome)), Outcome)
        return found

    def record(self, call_id: str, event: str, details: Mapping[str, Any]) -> None:
        self.plane.record(call_id, event, crossed(details, Any))

    def publish(self, call_id: str, activity: Mapping[str, Any]) -> None:
        self.plane.publish(call_id, crossed(activity, Any))

    def reject(
        self, metadata: RequestMetadata, wire_format: str, status: int, code: str, message: str
    ) -> Answer:
        answer = self.plane.reject(crossed(metadata, RequestMetadata), wire_format, status, code, message)
        found: Answer = crossed(answer, Answer)
        return found


class JsonStream:
    """Implements `GuardedStream` on top of another one."""

    def __init__(self, stream: GuardedStream) -> None:
        self.stream = stream

    async def feed(self, data: bytes, *, last: bool = False) -> Release:
        return _release(await self.stream.feed(crossed(data, bytes), last=last))

    async def feed_text(self, text: str) -> str | Release:
        said = self.stream.feed_text(crossed(text, str))
        left = said if isinstance(said, str) else await said
        return crossed(left, str) if isinstance(left, str) else _release(left)

    async def settle(self) -> Release:
        return _release(await self.stream.settle())

    async def decide_pending(self) -> None:
        await self.stream.decide_pending()

    async def fail(self, status: int, code: str, message: str) -> Release:
        return _release(await self.stream.fail(status, code, message))

    def keepalive(self) -> bytes:
        found: bytes = crossed(self.stream.keepalive(), bytes)
        return found

    def overdue(self) -> str | None:
        return self.stream.overdue()


def _release(release: Release) -> Release:
    found: Release = crossed(release, Release)
    return found
