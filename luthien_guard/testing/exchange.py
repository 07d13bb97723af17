"""Plays one exchange through a guard's control plane, as a shell would, without HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthien_guard.control_plane.service import Answer, GuardedStream, Release, StreamingContext
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata, new_call_id
from luthien_guard.guard import Guard
from luthien_guard.records import Record
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.cuts import Cut
from luthien_guard.testing.reading import read
from luthien_guard.testing.rendering import Rendering, render
from luthien_guard.testing.rendering.parts import CREATED
from luthien_guard.testing.script import Disconnect, Leave, Script, Stall
from luthien_guard.testing.transcript import Transcript
from luthien_guard.testing.watch import Watch

__all__ = ["Played", "Upstream", "play"]


@dataclass(slots=True)
class Upstream:
    """What the scripted upstream saw and said, over all attempts."""

    wire_format: str
    #: The requests as they were sent, parsed; empty when the guard answered by itself.
    requests: list[Any] = field(default_factory=list[Any])
    rendering: Rendering = field(default_factory=lambda: Rendering(200, False, ()))
    #: Bytes that it really sent before it was stopped; of the last attempt.
    sent: bytes = b""

    @property
    def called(self) -> bool:
        return bool(self.requests)

    @property
    def transcript(self) -> Transcript:
        """The whole of what the last attempt would have said."""
        return read(self.rendering.body, self.wire_format, stream=self.rendering.stream)

    @property
    def text(self) -> str:
        return self.transcript.text


@dataclass(slots=True)
class Played:
    """One exchange and everything that came of it."""

    wire_format: str
    stream: bool  # asked for
    cut: str
    call_id: str
    upstream: Upstream
    status: int = 200
    #: True when what left is server-sent events.
    events: bool = False
    #: (bytes that upstream had sent by then, bytes that left then)
    timeline: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    outcome: Outcome = field(default_factory=lambda: Outcome(OutcomeStatus.SUCCESS))
    records: tuple[Record, ...] = ()
    _read: tuple[int, Transcript] | None = None

    @property
    def body(self) -> bytes:
        """Every byte that left."""
        return b"".join(data for _, data in self.timeline)

    @property
    def transcript(self) -> Transcript:
        """What the client makes of it; read once for each length of the timeline."""
        if self._read is None or self._read[0] != len(self.timeline):
            self._read = (len(self.timeline), read(self.body, self.wire_format, stream=self.events))
        return self._read[1]

    @property
    def label(self) -> str:
        """Which of many runs this is, for messages."""
        return f"{self.wire_format}, {'streamed' if self.stream else 'not streamed'}, {self.cut}"

    def left(self, data: bytes) -> None:
        if data:
            self.timeline.append((len(self.upstream.sent), data))

    def answered(self, answer: Answer) -> None:
        """The guard's own answer stands in the place of everything."""
        assert not self.timeline, "an answer instead, after something was released"
        self.status = answer.status
        self.events = answer.content_type.startswith("text/event-stream")
        self.left(answer.body)


async def play(
    guard: Guard,
    scripts: Sequence[Script],
    wire_format: str,
    *,
    stream: bool,
    cut: Cut,
    request: Mapping[str, Any],
    exchange: Mapping[str, Any] | None = None,
) -> Played:
    """One exchange: attempt n (after a `Retry`) is answered by the n-th script, the last one repeats. `exchange`: what
    policies see as `ctx.exchange`."""
    said: dict[str, Any] = {"call_id": new_call_id(), "timestamp": float(CREATED), **(exchange or {})}
    metadata = RequestMetadata(**said)
    played = Played(wire_format, stream, cut.name, metadata.call_id, Upstream(wire_format))
    watch = Watch(guard)
    await watch.over(lambda: _play(guard, watch, scripts, played, metadata, cut, request))
    return played


async def _play(
    guard: Guard,
    watch: Watch,
    scripts: Sequence[Script],
    played: Played,
    metadata: RequestMetadata,
    cut: Cut,
    request: Mapping[str, Any],
) -> None:
    wire_format, left = played.wire_format, None
    try:
        asked = json.dumps(request).encode()
        decision = (await watch.step(guard.plane.decide_request(metadata, wire_format, asked))).value
        body = decision.body if decision.answer is None else None
        if decision.answer is not None:
            played.answered(decision.answer)
        while body is not None:
            attempt = len(played.upstream.requests)
            played.upstream.requests.append(json.loads(body))
            script = scripts[min(attempt, len(scripts) - 1)]
            played.upstream.rendering = render(script, wire_format, stream=decision.stream)
            body, left = await _attempt(guard, watch, played, cut, attempt)
    finally:
        played.outcome = await watch.closes(guard.plane.close(played.call_id, left))
        played.records = guard.records_of(played.call_id)


async def _attempt(
    guard: Guard, watch: Watch, played: Played, cut: Cut, attempt: int
) -> tuple[bytes | None, Outcome | None]:
    """(the body of the next attempt, how the shell saw the exchange end), None where there is neither."""
    rendering = played.upstream.rendering
    played.upstream.sent = b""
    played.status, played.events = rendering.status, rendering.stream
    context = StreamingContext(
        played.call_id, played.wire_format, rendering.status, rendering.stream, attempt
    )
    stream = await guard.plane.open_stream(context)
    last = await watch.decides(stream, _heard(guard, watch, stream, played, cut))
    if last is None:
        return None, Outcome(OutcomeStatus.CANCELLED, reason="the client went away")
    _taken(played, last)
    return last.retry, None


async def _heard(
    guard: Guard, watch: Watch, stream: GuardedStream, played: Played, cut: Cut
) -> Release | None:
    """The last release, which is not let out yet; None when the client left before it."""
    for part in cut(played.upstream.rendering.parts):
        if isinstance(part, bytes):
            played.upstream.sent += part
            release = await watch.step(stream.feed(part))
            if not cut.late:
                release = await _settled(watch, stream, release, played)
        elif isinstance(part, Leave):
            return None
        else:
            release = await _paused(guard, watch, stream, part, played)
        if _is_last(release):
            return release
        played.left(release.data)
    return await _settled(watch, stream, await watch.step(stream.feed(b"", last=True)), played)


async def _settled(watch: Watch, stream: GuardedStream, release: Release, played: Played) -> Release:
    """Decide what is pending, as often as the decisions bring more."""
    while release.pending and not release.done:
        played.left(release.data)
        release = await watch.step(stream.settle())
    return release


async def _paused(
    guard: Guard, watch: Watch, stream: GuardedStream, pause: Stall | Disconnect, played: Played
) -> Release:
    """What a shell does when nothing comes: decide what waits, then give up at the idle limit."""
    if isinstance(pause, Disconnect):
        return await stream.fail(502, "upstream_error", "the upstream closed the connection")
    release = await watch.step(stream.feed(b""))
    release = await _settled(watch, stream, release, played)
    if release.done or pause.seconds < guard.limits.idle_timeout:
        if isinstance(guard.clock, VirtualClock):
            await guard.clock.advance(pause.seconds)
        return release
    played.left(release.data)
    return await stream.fail(504, "idle_timeout", f"nothing came for {guard.limits.idle_timeout:g} s")


def _is_last(release: Release) -> bool:
    return release.done or release.retry is not None or release.answer is not None


def _taken(played: Played, release: Release) -> None:
    """Let out what was released."""
    if release.answer is not None:
        played.answered(release.answer)
    else:
        played.left(release.data)
