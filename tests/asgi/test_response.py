"""The answer's side of the middleware: R09-R11, J09, J12-J14, headers, verdicts."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from itertools import count
from typing import Any

import brotli
import pytest
import zstandard

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.control_plane.service import Answer, Release, RequestDecision, StreamingContext
from luthien_guard.limits import Limits
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.plane import ScriptedGuard, ScriptedPlane, ScriptedStream
from tests.asgi.host import JSON, SSE, Speaker, Visit, visit

pytestmark = pytest.mark.anyio


class Upper(ScriptedStream):
    async def take(self, data: bytes, *, last: bool) -> Release:
        return Release(items=((data.upper(), None),) if data else ())


class Whole(ScriptedStream):
    """Holds a body to its end, as the engine does."""

    async def take(self, data: bytes, *, last: bool) -> Release:
        return Release(items=((b"".join(self.fed).upper(), None),)) if last else Release(held=1)


def plane_of(
    stream: Callable[[StreamingContext], ScriptedStream], **options: Any
) -> tuple[ScriptedPlane, Any]:
    plane = ScriptedPlane(stream, **options)
    return plane, ScriptedGuard(plane)


def breathless() -> Callable[[], float]:
    """A clock on which next to no time passes between two messages."""
    return count(1000.0, 1e-6).__next__


async def test_a_stream_leaves_message_by_message() -> None:
    guard = ScriptedGuard(clock=VirtualClock())
    heard = await visit(GuardMiddleware(Speaker(b"data: a\n\n", b"data: b\n\n"), guard=guard))
    assert [m["body"] for m in heard.messages[1:]] == [b"data: a\n\n", b"data: b\n\n", b""]
    assert heard.complete


async def test_an_application_in_a_hurry_is_heard_in_batches() -> None:
    """Messages of one breath are decided and written together; all of them, in order, whatever comes of them."""
    pieces = [b"data: %d\n\n" % number for number in range(1000)]
    heard = await visit(GuardMiddleware(Speaker(*pieces), guard=ScriptedGuard(clock=breathless())))
    assert heard.body == b"".join(pieces)
    assert heard.complete
    assert len(heard.messages) < 100


async def test_what_an_application_said_in_a_hurry_before_it_failed_is_not_lost() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        for number in range(10):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        raise ValueError("the host's own")

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(clock=breathless())))
    with pytest.raises(ValueError, match="own"):
        await seen.run()
    heard = seen.heard
    assert heard.body.startswith(b"".join(b"data: %d\n\n" % number for number in range(10)))


async def test_the_start_is_held_until_something_may_leave() -> None:
    class Later(ScriptedStream):
        async def take(self, data: bytes, *, last: bool) -> Release:
            assert not seen.heard.messages or last
            return Release(items=((b"".join(self.fed), None),)) if last else Release(held=1)

    _, guard = plane_of(Later)
    seen = Visit(GuardMiddleware(Speaker(b"data: a\n\n", b"data: b\n\n"), guard=guard))
    heard = await seen.run()
    assert heard.body == b"data: a\n\ndata: b\n\n"


async def test_a_changed_body_has_its_exact_length_and_no_seal_of_the_old_one() -> None:
    old = [
        (b"Content-Length", b"7"), (b"ETag", b'"x"'), (b"digest", b"sha-256=x"), (b"content-md5", b"x"),
        (b"accept-ranges", b"bytes"), (b"content-range", b"bytes 0-1/2"), (b"set-cookie", b"a=1"),
        (b"content-type", b"application/json"), (b"set-cookie", b"b=2"), (b"x-luthien-call-id", b"forged"),
    ]  # fmt: skip
    _, guard = plane_of(Whole)
    heard = await visit(GuardMiddleware(Speaker(b'{"a":', b'"b"}', headers=old), guard=guard))
    assert heard.body == b'{"A":"B"}'
    names = [name for name, _ in heard.messages[0]["headers"]]
    assert names == [b"set-cookie", b"content-type", b"set-cookie", b"content-length", b"x-luthien-call-id"]
    assert heard.headers[b"content-length"] == b"9"
    assert heard.headers[b"x-luthien-call-id"] != b"forged"


async def test_a_stream_has_no_length() -> None:
    headers = [*SSE, (b"content-length", b"9")]
    heard = await visit(GuardMiddleware(Speaker(b"data: a\n\n", headers=headers), guard=ScriptedGuard()))
    assert b"content-length" not in heard.headers


@pytest.mark.parametrize("stream", [b'{"stream":true}', b'{"stream":false}', b'{"stream":"on"}', b"{}"])
@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (SSE, b"data: {}\n\n", True), (JSON, b"data: {}\n\n", True), ([], b"data: {}\n\n", True),
        (JSON, b'{"a":1}', False), (SSE, b'{"a":1}', False), ([], b'{"a":1}', False),
        ([(b"content-type", b"text/html")], b'{"a":1}', False), ([(b"content-type", b"text/html")], b"<p>", False),
        (SSE, b"garbage", True),
    ],
)  # fmt: skip
async def test_what_an_answer_is_follows_from_its_bytes(
    stream: bytes, headers: list[tuple[bytes, bytes]], body: bytes, expected: bool
) -> None:
    plane, guard = plane_of(ScriptedStream)
    heard = await visit(GuardMiddleware(Speaker(body, headers=headers), guard=guard), body=stream)
    assert plane.streams[0].context.stream is expected
    assert heard.body == body


@pytest.mark.parametrize(
    "body", [b'{"a": 1}', b"data: {}\n\n", b"\n\n \ndata: x\n\n", b"event: x\ndata: 1\n\n"]
)
async def test_byte_by_byte_it_is_the_same(body: bytes) -> None:
    plane, guard = plane_of(Upper)
    pieces = [body[at : at + 1] for at in range(len(body))]
    heard = await visit(GuardMiddleware(Speaker(*pieces, headers=[]), guard=guard))
    assert heard.body == body.upper()
    assert plane.streams[0].context.stream is (not body.startswith(b"{"))


@pytest.mark.parametrize("status", [200, 201, 400, 404, 429, 500, 503])
async def test_every_status_is_inspected(status: int) -> None:
    plane, guard = plane_of(Upper)
    app = Speaker(b'{"error":"x"}', status=status, headers=[*JSON, (b"retry-after", b"7")])
    heard = await visit(GuardMiddleware(app, guard=guard))
    assert (heard.status, heard.body) == (status, b'{"ERROR":"X"}')
    assert heard.headers[b"retry-after"] == b"7"
    assert plane.streams[0].context.status == status


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_status_without_a_body_has_none(status: int) -> None:
    plane, guard = plane_of(ScriptedStream)
    heard = await visit(GuardMiddleware(Speaker(b"smuggled", status=status), guard=guard))
    assert (heard.status, heard.body, heard.complete) == (status, b"", True)
    assert plane.streams == []
    assert plane.facts == [("body.dropped", {"status": status})]
    assert len(plane.closed) == 1


async def test_head_has_headers_only() -> None:
    plane, guard = plane_of(ScriptedStream)
    app = Speaker(b'{"a":1}', headers=[*JSON, (b"content-length", b"7")])
    heard = await visit(GuardMiddleware(app, guard=guard), method="HEAD", body=b"")
    assert (heard.body, heard.complete) == (b"", True)
    assert heard.headers[b"content-length"] == b"7"
    assert len(plane.closed) == 1


ENCODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress, b"deflate": zlib.compress, b"br": brotli.compress, b"zstd": zstandard.compress,
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("body", [b'{"a":"text"}', b"data: a\n\ndata: b\n\n"])
async def test_an_encoded_answer_is_decoded_before_anyone_looks(encoding: bytes, body: bytes) -> None:
    encoded = ENCODERS[encoding](body)
    plane, guard = plane_of(Upper)
    headers = [(b"content-encoding", encoding), (b"vary", b"accept-encoding")]
    app = Speaker(encoded[:5], encoded[5:], headers=headers)
    heard = await visit(GuardMiddleware(app, guard=guard), headers=[(b"accept-encoding", encoding)])
    assert heard.body == body.upper()
    assert b"content-encoding" not in heard.headers
    assert b"accept-encoding" not in dict(app.scopes[0]["headers"])
    assert plane.streams[0].context.stream is body.startswith(b"data")


@pytest.mark.parametrize(
    ("encoding", "pieces"),
    [
        (b"rot13", [b"x"]), (b"gzip, gzip", [b"x"]), (b"gzip", [b"plain text, no gzip"]),
        (b"gzip", [gzip.compress(b"{}"), b"trailing"]), (b"gzip", [gzip.compress(b"{}")[:-4]]),
        (b"gzip", [gzip.compress(b" " * 9_000_000)]),
    ],
)  # fmt: skip
async def test_an_answer_that_cannot_be_decoded_does_not_leave(encoding: bytes, pieces: list[bytes]) -> None:
    plane = ScriptedPlane(Whole)
    guard = ScriptedGuard(plane, limits=Limits(max_response_bytes=1_000_000))
    headers = [(b"content-encoding", encoding), (b"content-type", b"application/json")]
    heard = await visit(GuardMiddleware(Speaker(*pieces, headers=headers), guard=guard))
    assert heard.status == 502
    assert heard.body == b'{"error":{"code":"uninspectable_response"}}'
    assert heard.complete
    assert len(plane.closed) == 1


@pytest.mark.parametrize("pieces", [[b"x"], [b"", b"\xff", b"y"]])
async def test_who_only_observes_lets_pass_what_nobody_can_read(pieces: list[bytes]) -> None:
    plane = ScriptedPlane(Whole, decide=lambda body: RequestDecision(body, enforces=False))
    headers = [(b"content-encoding", b"rot13"), (b"content-type", b"text/event-stream")]
    heard = await visit(GuardMiddleware(Speaker(*pieces, headers=headers), guard=ScriptedGuard(plane)))
    assert (heard.status, heard.body) == (200, b"".join(pieces))
    assert heard.messages[0]["headers"][:2] == headers
    assert heard.complete
    assert plane.streams == []
    assert [event for event, _ in plane.facts] == ["body.unread"]
    assert len(plane.closed) == 1


@pytest.mark.parametrize(
    "charset",
    [
        b"charset=utf-16",
        b"charset*=utf-8''utf-7",
        b"charset*0=utf; charset*1=-7",
        b"charset=utf-8; charset=utf-7",
    ],
)
async def test_a_label_with_another_charset_is_made_true(charset: bytes) -> None:
    headers = [(b"content-type", b"application/json; " + charset), (b"x", b"charset=utf-16")]
    heard = await visit(GuardMiddleware(Speaker(b"{}", headers=headers), guard=ScriptedGuard()))
    assert heard.headers[b"content-type"] == b"application/json; charset=utf-8"


async def test_an_answer_without_a_label_gets_one() -> None:
    heard = await visit(GuardMiddleware(Speaker(b"{}", headers=[]), guard=ScriptedGuard()))
    assert heard.headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize(
    "kind",
    ["http.response.pathsend", "http.response.zerocopysend", "http.response.trailers", "http.response.push",
     "http.response.early_hint", "http.response.debug", "http.response.nonsense"],
)  # fmt: skip
@pytest.mark.parametrize("covers", [True, False])
async def test_messages_that_go_around_the_body_are_refused(kind: str, covers: bool) -> None:
    caught = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": JSON, "trailers": True})
        try:
            await send(
                {"type": kind, "path": "/etc/passwd", "headers": [(b"x", b"BADWORD")], "more_trailers": False}
            )
        except RuntimeError as error:
            caught.append(str(error))
        await send({"type": "http.response.body", "body": b"{}"})

    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=covers))
    heard = await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)), extensions={kind: {}})
    assert caught == [f"{kind} goes around the body of a guarded response"]
    assert {m["type"] for m in heard.messages} == {"http.response.start", "http.response.body"}
    assert not heard.messages[0].get("trailers")
    assert heard.body == b"{}"


async def test_an_uncovered_answer_goes_straight_through() -> None:
    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=False))
    headers = [
        (b"content-type", b"image/png"),
        (b"content-length", b"4"),
        (b"etag", b"x"),
        (b"content-encoding", b"br"),
    ]
    heard = await visit(
        GuardMiddleware(Speaker(b"\xff\xfe", b"ab", headers=headers), guard=ScriptedGuard(plane))
    )
    assert heard.body == b"\xff\xfeab"
    assert heard.messages[0]["headers"][:4] == headers
    assert plane.streams == []
    assert len(plane.closed) == 1


class Verdict(ScriptedStream):
    """Says `release` about the first piece with "!" in it."""

    release: Release

    async def take(self, data: bytes, *, last: bool) -> Release:
        return self.release if b"!" in data else await super().take(data, last=last)


def saying(release: Release) -> Callable[[StreamingContext], ScriptedStream]:
    def made(context: StreamingContext) -> ScriptedStream:
        stream = Verdict(context)
        stream.release = release
        return stream

    return made


async def test_an_answer_of_the_guard_replaces_status_headers_and_body() -> None:
    plane, guard = plane_of(saying(Release(done=True, answer=Answer(451, "application/json", b'{"no":1}'))))
    app = Speaker(b'{"a":"!"}', headers=[*JSON, (b"set-cookie", b"secret=1")])
    heard = await visit(GuardMiddleware(app, guard=guard))
    assert (heard.status, heard.body) == (451, b'{"no":1}')
    assert b"set-cookie" not in heard.headers
    assert len(plane.closed) == 1


@pytest.mark.parametrize("swallow", [False, True])
async def test_done_ends_the_answer_and_cancels_the_application(swallow: bool) -> None:
    went_on = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": b"data: a\n\n", "more_body": True})
        try:
            await send({"type": "http.response.body", "body": b"data: !\n\n", "more_body": True})
            went_on.append(1)
        except BaseException:
            if not swallow:
                raise

    verdict = saying(Release(items=((b"data: blocked\n\n", None),), done=True))
    plane = ScriptedPlane(verdict)
    heard = await visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=VirtualClock())))
    assert heard.body == b"data: a\n\ndata: blocked\n\n"
    assert heard.complete
    assert went_on == []
    assert [outcome for _, outcome in plane.closed] == [None]


async def test_retry_runs_the_application_again_with_the_new_body() -> None:
    def stream(context: StreamingContext) -> ScriptedStream:
        return saying(Release(done=True, retry=b'{"again":%d}' % (context.attempt + 1)))(context)

    plane, guard = plane_of(stream)
    bodies = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        await Speaker(b"!" if len(bodies) < 3 else b'{"good":1}', headers=JSON).__call__(scope, _ended, send)

    async def _ended() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    heard = await visit(GuardMiddleware(app, guard=guard))
    assert bodies == [b"{}", b'{"again":1}', b'{"again":2}']
    assert heard.body == b'{"good":1}'
    assert [s.context.attempt for s in plane.streams] == [0, 1, 2]
    assert len(plane.closed) == 1


async def test_retries_are_bounded() -> None:
    plane = ScriptedPlane(saying(Release(done=True, retry=b"{}")))
    guard = ScriptedGuard(plane, limits=Limits(max_retries=2))
    app = Speaker(b"!", headers=JSON)
    heard = await visit(GuardMiddleware(app, guard=guard))
    assert len(app.scopes) == 3
    assert heard.status == 502
    assert heard.body == b'{"error":{"code":"too_many_retries"}}'
    assert len(plane.closed) == 1


async def test_headers_may_be_any_iterable_in_any_case() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = ([name, value] for name, value in [(b"Content-Type", b"application/json"), (b"X-A", b"1")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    heard = await visit(GuardMiddleware(app, guard=ScriptedGuard()))
    assert heard.headers[b"content-type"] == b"application/json"
    assert heard.headers[b"x-a"] == b"1"


@pytest.mark.parametrize("status", ["200", None, 103, 99, 1000])
@pytest.mark.parametrize("covers", [False, True])
async def test_a_status_that_ends_no_answer_is_the_application_s_error(status: Any, covers: bool) -> None:
    app, plane = (
        Speaker(b"{}", status=status),
        ScriptedPlane(decide=lambda b: RequestDecision(b, covers_response=covers)),
    )
    for _ in range(2):
        seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
        with pytest.raises(RuntimeError, match="from 200 to 999"):
            await seen.run()
        assert seen.heard.messages == []
    assert len(plane.closed) == 2


@pytest.mark.parametrize(
    "kinds",
    [["body"], ["start", "start"], ["start", "end", "body"]],
    ids=["no start", "two starts", "after the end"],
)
async def test_an_illegal_order_is_the_application_s_error(kinds: list[str]) -> None:
    messages: dict[str, dict[str, Any]] = {
        "start": {"type": "http.response.start", "status": 200, "headers": JSON},
        "body": {"type": "http.response.body", "body": b"{}", "more_body": True},
        "end": {"type": "http.response.body", "body": b"{}"},
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for kind in kinds:
            await send(messages[kind])

    plane = ScriptedPlane(Whole)
    with pytest.raises(RuntimeError):
        await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    assert len(plane.closed) == 1
