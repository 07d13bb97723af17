"""An upstream that answers with recorded traffic: tests, demonstrations, development without a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
import anyio.to_thread

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.headers import for_client
from luthien_guard.gateway.upstreams.match import Match
from luthien_guard.gateway.upstreams.recordings import Recording, best, load, shape_of
from luthien_guard.gateway.upstreams.types import Call, HeaderList, Reply, UpstreamError, WholeReply

__all__ = ["ReplayUpstream"]

#: Seconds between two events where their times were not recorded: some fifty tokens a second.
_BEAT: Final = 0.02
_HEADER: Final = b"x-luthien-recording"


class ReplayUpstream:
    """Picks the recording that a request names by its id (the header `x-luthien-recording`, `metadata.recording`, or the
    end of the model's name: "demo-ID"), else the one that fits wire format, `stream` and request best.

    `pace` 1 plays as recorded, 0.5 in half the time, 0 at once.
    """

    def __init__(self, settings: UpstreamSettings, name: str) -> None:
        assert settings.replay is not None
        self.name = name
        self.fallback: Sequence[str] = tuple(settings.fallback)
        self.retries = 0
        self._place = settings.replay
        self._pace = settings.pace
        self._match = Match(settings.match)
        self._recordings: dict[str, Recording] = {}

    @property
    def origins(self) -> frozenset[str]:
        return frozenset()

    def needs_caller(self, call: Call) -> bool:
        return False

    def speaks(self, call: Call) -> bool:
        return call.method == "POST" and call.path.count("/") <= 3

    def serves(self, call: Call) -> bool:
        return self.speaks(call) and self._match(call.model)

    async def start(self) -> None:
        if not self._recordings:
            found = await anyio.to_thread.run_sync(load, self._place)
            self._recordings = {each.id: each for each in found}

    async def stop(self) -> None:
        """Nothing is open."""

    async def ask(self, call: Call) -> Reply:
        if not self._recordings:
            await self.start()
        body = _parsed(call.body)
        if call.path.endswith(("/count_tokens", "/input_tokens")):
            return WholeReply(200, [], b'{"input_tokens":%d}' % (len(call.body) // 4))
        recording = self._named(call, body) or best(
            self._recordings.values(), call.wire_format, call.stream, shape_of(body)
        )
        if recording is None:
            kind = "a stream" if call.stream else "a whole body"
            raise UpstreamError(
                404, "no_recording", f"nothing recorded in {call.wire_format} as {kind}", again=False
            )
        call.record("upstream.replayed", recording=recording.id)
        response = await anyio.to_thread.run_sync(recording.response)
        return _reply(recording, response, self._pace)

    async def models(self, call: Call) -> Sequence[Mapping[str, Any]]:
        return [{"id": each} for each in self._match.patterns if not set("*?[") & set(each)]

    def _named(self, call: Call, body: Mapping[str, Any]) -> Recording | None:
        header = next((value.decode("latin-1") for name, value in call.headers if name == _HEADER), "")
        metadata = body.get("metadata")
        field = metadata.get("recording") if isinstance(metadata, dict) else None
        for name in (header, field, call.model.rpartition("-")[2]):
            found = self._recordings.get(name) if isinstance(name, str) else None
            if found is not None and found.wire_format == call.wire_format:
                return found
        return None


class _Played:
    """A recorded stream, as fast as it was."""

    stream = True

    def __init__(self, status: int, headers: HeaderList, parts: Sequence[tuple[float, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._parts = iter(parts)

    async def read(self) -> bytes:
        wait, part = next(self._parts, (0.0, b""))
        await anyio.sleep(wait)
        return part

    async def aclose(self) -> None:
        """Nothing is open."""


def _reply(recording: Recording, response: Mapping[str, Any], pace: float) -> Reply:
    body = response["body_text"].encode()
    given = response.get("headers") or {}
    headers = for_client((str(name).encode(), str(value).encode()) for name, value in given.items())
    kept = [pair for pair in headers if pair[0] != b"content-type"]
    kept.append((b"x-luthien-recording", recording.id.encode()))
    if not recording.stream or recording.status != 200 or body.lstrip()[:1] in (b"{", b"["):
        return WholeReply(recording.status, kept, body)
    kept.append((b"content-type", b"text/event-stream; charset=utf-8"))
    return _Played(recording.status, kept, _timed(body, response, pace))


def _timed(body: bytes, response: Mapping[str, Any], pace: float) -> list[tuple[float, bytes]]:
    """(seconds to wait before it, bytes) of each part: the network's own cuts where they were recorded, else events."""
    lengths, times = response.get("chunk_lens"), response.get("chunk_times")
    if not isinstance(lengths, list) or sum(lengths) != len(body):
        return [(_BEAT * pace, part) for part in _events(body)]
    parts: list[bytes] = []
    at = 0
    for length in lengths:
        parts.append(body[at : at + length])
        at += length
    waits = [_BEAT] * len(parts)
    if isinstance(times, list) and len(times) == len(parts):
        waits = [max(0.0, now - before) for before, now in zip([0.0, *times], times, strict=False)]
    return [(wait * pace, part) for wait, part in zip(waits, parts, strict=True) if part]


def _events(body: bytes) -> list[bytes]:
    mark = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    pieces = body.split(mark)
    ends = [mark] * (len(pieces) - 1) + [b""]
    return [piece + end for piece, end in zip(pieces, ends, strict=True) if piece or end]


def _parsed(body: bytes) -> Mapping[str, Any]:
    import jiter

    try:
        data = jiter.from_json(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
