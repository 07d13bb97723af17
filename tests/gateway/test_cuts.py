"""A stream that is cut at every byte: whole events and then an error in the client's words, never a success.

In process, and the upstream on a loopback socket: what breaks off is a real connection.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 -- native upstreams ride on it
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from luthien_guard import Guard
from luthien_guard.gateway import create_app
from luthien_guard.records import EventType, Record
from luthien_guard.testing import Script, render
from luthien_guard.wire.sse import SSEDecoder
from tests.asgi_drive import Reply, ask
from tests.gateway.harness import ENDS, FORMATS, PATHS, POLICIES, chunked, head, native, request

each_format = pytest.mark.parametrize("wire_format", FORMATS)
HEADERS: Final = [(b"host", b"localhost"), (b"authorization", b"Bearer sk-caller")]
ERRORS: Final = {
    "openai.chat": b'data: {"error"',
    "anthropic.messages": b"event: error\n",
    "openai.responses": b"event: response.failed\n",
}


def story(wire_format: str) -> bytes:
    """A whole stream of about 4 KB."""
    words, body = 1, b""
    while len(body) < 3700:
        words += 1
        text = " ".join(f"word{number}" for number in range(words))
        body = render(Script().text(text).split(6), wire_format, stream=True).body
    return body


class Upstream(asyncio.Protocol):
    """Says what it is told to, whatever it is asked, and hangs up."""

    said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if self._heard.endswith(b"}"):
            self._transport.write(self.said)
            self._transport.close()


class Gate:
    """A gateway that is asked in process."""

    def __init__(self, guard: Guard, app: Any, wire_format: str) -> None:
        self._guard = guard
        self._app = app
        self._path = PATHS[wire_format]
        self._body = json.dumps(request(wire_format)).encode()

    async def answer(self, said: bytes) -> tuple[Reply, str, list[Record]]:
        """The answer, the outcome, and all records."""
        Upstream.said = said
        reply = await ask(self._app, self._path, self._body, headers=HEADERS)
        records = list(self._guard.records_of(reply.header("x-luthien-call-id") or ""))
        (closed,) = (each for each in records if each.type is EventType.CLOSED)
        return reply, closed.details["outcome"], records


@asynccontextmanager
async def gates(wire_format: str) -> AsyncGenerator[list[Gate]]:
    """One that no policy watches, and one where a policy looks at everything."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    guards = [Guard(policies) for policies in POLICIES.values()]
    apps = [create_app(each, [native(url)]) for each in guards]
    yield [Gate(guard, app, wire_format) for guard, app in zip(guards, apps, strict=True)]
    for app in apps:
        await app.state.upstreams.stop()
    for guard in guards:
        await guard.stop()
    server.close()


def broken(reply: Reply, wire_format: str, whole: bytes) -> None:
    """The events that were whole, as they came, then one error."""
    assert reply.finished
    if not whole:
        assert reply.status == 502
        assert "error" in json.loads(reply.body)
        return
    assert reply.status == 200
    assert reply.body.startswith(whole)
    rest = reply.body[len(whole) :].lstrip(b"\n")
    assert rest.startswith(ERRORS[wire_format]), rest
    frames = [frame for frame in SSEDecoder().feed(rest) if frame.data != b"[DONE]"]
    assert len(frames) == 1
    assert json.loads(frames[0].data or b"")


def run(work: Any, *args: Any) -> None:
    anyio.run(work, *args, backend="asyncio")


@each_format
def test_at_every_byte(wire_format: str) -> None:
    """Watched and unwatched in turn, and around the ends of events both."""
    body = story(wire_format)
    first = body.index(b"\n\n") + 2

    async def all_cuts() -> None:
        async with gates(wire_format) as both:
            for at in range(len(body) + 1):
                border = body[max(0, at - 2) : at + 2].count(b"\n\n") > 0
                said = head(transfer_encoding="chunked") + (chunked(body[:at]) if at else b"")
                for gate in both if border else both[at % 2 : at % 2 + 1]:
                    reply, outcome, _ = await gate.answer(said)
                    if at == len(body):
                        assert (reply.status, reply.body, outcome) == (200, body, "success")
                        continue
                    broken(reply, wire_format, body[: body.rfind(b"\n\n", 0, at) + 2] if at >= first else b"")
                    assert outcome == "upstream_error"

    run(all_cuts)


@each_format
def test_after_the_last_event_nothing_is_missing_and_the_record_knows(wire_format: str) -> None:
    body = story(wire_format)

    async def cut_behind() -> None:
        async with gates(wire_format) as both:
            for gate in both:
                _, _, records = await gate.answer(head(transfer_encoding="chunked") + chunked(body))
                assert any(each.details.get("event") == "upstream.broke_off" for each in records)

    run(cut_behind)


@each_format
def test_an_orderly_end_that_comes_too_early_is_a_cut(wire_format: str) -> None:
    """A proxy on the way closes its answer in good order, though the provider's broke off."""
    body = story(wire_format)
    whole = body[: body.rfind(b"\n\n", 0, body.index(b"word1")) + 2]

    async def early_end() -> None:
        async with gates(wire_format) as both:
            for gate in both:
                said = head(connection="close", transfer_encoding="chunked") + chunked(whole) + b"0\r\n\r\n"
                reply, outcome, _ = await gate.answer(said)
                broken(reply, wire_format, whole)
                assert outcome == "upstream_error"

    run(early_end)


@each_format
def test_pieces_of_any_size_arrive_byte_for_byte(wire_format: str) -> None:
    body = story(wire_format)

    async def all_sizes() -> None:
        async with gates(wire_format) as both:
            for gate in both:
                for size in (1, 2, 3, 7, 64, 1000):
                    pieces = b"".join(chunked(body[at : at + size]) for at in range(0, len(body), size))
                    said = head(connection="close", transfer_encoding="chunked") + pieces + b"0\r\n\r\n"
                    reply, outcome, _ = await gate.answer(said)
                    assert (reply.status, reply.body, outcome) == (200, body, "success")

    run(all_sizes)


@each_format
def test_an_orderly_end_within_an_event_is_a_cut(wire_format: str) -> None:
    """Whatever the event: what comes in good order before its blank line is whole only if its data is."""
    body = story(wire_format)
    last = body.rfind(b"\n\n", 0, len(body) - 2) + 2
    before = body.rfind(b"\n\n", 0, last - 2) + 2

    async def all_ends() -> None:
        async with gates(wire_format) as both:
            for at in (
                *range(before + 1, len(body), 41),
                *range(len(body) - 9, len(body)),
                *range(100, before, 499),
            ):
                whole = body[: body.rfind(b"\n\n", 0, at) + 2] if b"\n\n" in body[:at] else b""
                rest = body[len(whole) : at]
                if rest.rstrip(b"\n").endswith((b"}", b"[DONE]")) or not rest:
                    continue  # all there but for the blank line, or the end of an event
                said = (
                    head(connection="close", transfer_encoding="chunked") + chunked(body[:at]) + b"0\r\n\r\n"
                )
                for gate in both:
                    reply, outcome, _ = await gate.answer(said)
                    broken(reply, wire_format, whole)
                    assert outcome == "upstream_error", (at, rest)

    run(all_ends)


@each_format
def test_a_last_event_without_its_blank_line_is_whole(wire_format: str) -> None:
    body = story(wire_format)

    async def early_end() -> None:
        async with gates(wire_format) as both:
            for gate in both:
                for left_out in (1, 2):
                    pieces = chunked(body[:-left_out]) + b"0\r\n\r\n"
                    said = head(connection="close", transfer_encoding="chunked") + pieces
                    reply, outcome, _ = await gate.answer(said)
                    assert (reply.status, reply.body.rstrip(b"\n"), outcome) == (
                        200,
                        body.rstrip(b"\n"),
                        "success",
                    )

    run(early_end)


@each_format
def test_half_an_event_after_the_last_one_is_dropped(wire_format: str) -> None:
    body = story(wire_format)

    async def early_end() -> None:
        async with gates(wire_format) as both:
            for gate in both:
                for half in (b"data: {", b": pi", b"event: x\n", b'data: {"id":"c'):
                    pieces = chunked(body) + chunked(half) + b"0\r\n\r\n"
                    said = head(connection="close", transfer_encoding="chunked") + pieces
                    reply, outcome, records = await gate.answer(said)
                    assert (reply.status, reply.body, outcome) == (200, body, "success")
                    assert any(each.details.get("event") == "upstream.broke_off" for each in records)

    run(early_end)


def test_what_ends_like_the_last_event_and_is_text_is_not_it() -> None:
    body = render(
        Script().text("response.completed message_stop [DONE]").split(99), "anthropic.messages", stream=True
    ).body
    whole = body[: body.index(b"event: content_block_stop")]
    assert ENDS["anthropic.messages"] in whole

    async def cut() -> None:
        async with gates("anthropic.messages") as both:
            for gate in both:
                reply, outcome, _ = await gate.answer(head(transfer_encoding="chunked") + chunked(whole))
                broken(reply, "anthropic.messages", whole)
                assert outcome == "upstream_error"

    run(cut)
