"""A control plane that follows a script of one line, for testing shells without an engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import anyio

from luthien_guard.callers import Callers
from luthien_guard.control_plane.service import (
    Answer,
    ControlPlaneService,
    PolicyResult,
    Release,
    RequestDecision,
    StreamingContext,
)
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.limits import Limits

__all__ = ["ScriptedGuard", "ScriptedPlane", "ScriptedStream"]

Decide = Callable[[bytes], "RequestDecision | Awaitable[RequestDecision]"]


class ScriptedStream:
    """Passes everything; subclass and override `take` (bytes in, a Release out) for anything else."""

    #: Set by tests: what `overdue` says.
    late: str | None = None

    def __init__(self, context: StreamingContext) -> None:
        self.context = context
        self.fed: list[bytes] = []
        self.ended = False
        self.failed: list[tuple[int, str]] = []
        self.released = False

    async def take(self, data: bytes, *, last: bool) -> Release:
        return Release(items=((data, None),) if data else ())

    async def judge(self) -> None:
        """What a pending verdict waits for."""

    async def feed(self, data: bytes, *, last: bool = False) -> Release:
        if data:
            self.fed.append(data)
        self.ended = self.ended or last
        release = await self.take(data, last=last)
        self.released = self.released or bool(release.items)
        return release

    async def feed_text(self, text: str) -> str | Release:
        raise NotImplementedError("scripts are about bytes")

    async def decide_pending(self) -> None:
        await self.judge()

    async def settle(self) -> Release:
        await self.judge()
        return await self.feed(b"")

    async def fail(self, status: int, code: str, message: str) -> Release:
        self.failed.append((status, code))
        if not self.released:
            return Release(done=True, answer=Answer(status, "application/json", _error(code)))
        return Release(
            items=((b"data: " + _error(code) + b"\n\n", None),) if self.context.stream else (), done=True
        )

    def keepalive(self) -> bytes:
        return b": keep-alive\n\n" if self.context.stream else b""

    def overdue(self) -> str | None:
        return self.late


class ScriptedPlane:
    """Implements `ControlPlaneService`: `stream` makes the streams, `decide` answers for requests.

    What happened is in `requests`, `streams`, `closed` (call id and the outcome as the shell saw it), `rejected` and
    `facts`.
    """

    def __init__(
        self,
        stream: Callable[[StreamingContext], ScriptedStream] = ScriptedStream,
        *,
        decide: Decide | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._decide = decide
        self._close = close
        self.requests: list[bytes] = []
        self.streams: list[ScriptedStream] = []
        self.closed: list[tuple[str, Outcome | None]] = []
        self.rejected: list[tuple[int, str]] = []
        self.facts: list[tuple[str, Mapping[str, Any]]] = []
        self.opened = anyio.Event()

    async def decide_request(
        self, metadata: RequestMetadata, wire_format: str, body: bytes
    ) -> PolicyResult[RequestDecision]:
        self.requests.append(body)
        decision = RequestDecision(body) if self._decide is None else self._decide(body)
        if isinstance(decision, Awaitable):
            decision = await decision
        return PolicyResult(decision, allowed=decision.answer is None)

    async def open_stream(self, context: StreamingContext) -> ScriptedStream:
        stream = self._stream(context)
        self.streams.append(stream)
        self.opened.set()
        return stream

    async def close(self, call_id: str, outcome: Outcome | None = None) -> Outcome:
        if self._close is not None:
            await self._close()
        self.closed.append((call_id, outcome))
        return outcome or Outcome(OutcomeStatus.SUCCESS)

    def record(self, call_id: str, event: str, details: Mapping[str, Any]) -> None:
        self.facts.append((event, details))

    def publish(self, call_id: str, activity: Mapping[str, Any]) -> None:
        self.facts.append(("activity", activity))

    def reject(
        self, metadata: RequestMetadata, wire_format: str, status: int, code: str, message: str
    ) -> Answer:
        self.rejected.append((status, code))
        return Answer(status, "application/json", _error(code))


def _format_error(_status: int, code: str, _message: str) -> bytes:
    return _error(code)


def _error(code: str) -> bytes:
    return b'{"error":{"code":"' + code.encode() + b'"}}'


class ScriptedGuard:
    """As much of a `Guard` as a shell uses, over a `ScriptedPlane`. `starts` and `stops` count."""

    def __init__(
        self,
        plane: ScriptedPlane | None = None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.scripted = plane or ScriptedPlane()
        self.plane: ControlPlaneService = self.scripted
        self.limits = limits or Limits()
        self.clock = clock
        self.formats: Mapping[str, Any] = {
            name: SimpleNamespace(name=name, suffix=suffix, error=_format_error)
            for name, suffix in _SUFFIXES.items()
        }
        self.callers = Callers()
        self.starts = self.stops = 0

    @property
    def running(self) -> bool:
        return self.starts > self.stops

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None:
        self.stops += 1


_SUFFIXES: Final = {
    "openai.chat": "/chat/completions",
    "anthropic.messages": "/messages",
    "openai.responses": "/responses",
}
