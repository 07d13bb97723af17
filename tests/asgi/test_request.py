"""The request's side of the middleware: R07, R12-R15, J01, J09-J11."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import anyio
import pytest

from luthien_guard.asgi import GuardMiddleware, current_exchange
from luthien_guard.asgi.request import read_body
from luthien_guard.clock import MonotonicClock
from luthien_guard.control_plane.service import Answer, RequestDecision
from luthien_guard.limits import Limits
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.plane import ScriptedGuard, ScriptedPlane
from tests.asgi.host import Speaker, Visit, visit, whole

pytestmark = pytest.mark.anyio


def guarded(app: Any, guard: ScriptedGuard, **options: Any) -> GuardMiddleware:
    return GuardMiddleware(app, guard=guard, **options)


async def test_an_open_path_passes_untouched() -> None:
    app, guard = Speaker(b"anything"), ScriptedGuard()
    seen = Visit(guarded(app, guard), "/health", extensions={"http.response.pathsend": {}})
    await seen.run()
    assert app.scopes == [seen.scope]
    assert app.scopes[0] is seen.scope
    assert guard.scripted.requests == []
    assert guard.starts == 0


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "something.new"])
async def test_other_scope_types_on_open_paths_reach_the_application(kind: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        if kind == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await guarded(app, ScriptedGuard())({"type": kind, "path": "/ws"}, receive, send)
    assert seen == [kind]


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/chat/completions\n", "POST"), ("//v1/messages", "POST"), ("/v1/messages", "post")],
)
async def test_a_request_that_is_not_canonical_never_reaches_the_application(path: str, method: str) -> None:
    app, guard = Speaker(b"x"), ScriptedGuard()
    heard = await visit(guarded(app, guard), path, method=method)
    assert heard.status == 400
    assert heard.body == b'{"error":{"code":"path_not_canonical"}}'
    assert guard.scripted.rejected == [(400, "path_not_canonical")]
    assert app.scopes == []


async def test_the_body_is_decided_whole_and_handed_on_as_one_message() -> None:
    app, guard = Speaker(b"data: x\n\n"), ScriptedGuard()
    await visit(guarded(app, guard), body=[b'{"a":', b"", b"1}"])
    assert guard.scripted.requests == [b'{"a":1}']
    assert app.bodies == [b'{"a":1}']


async def test_a_changed_body_has_its_own_length() -> None:
    plane = ScriptedPlane(decide=lambda body: RequestDecision(b'{"changed": true}'))
    app = Speaker(b"data: x\n\n")
    headers = [(b"content-length", b"2"), (b"transfer-encoding", b"chunked"), (b"x-own", b"1")]
    await visit(guarded(app, ScriptedGuard(plane)), headers=headers)
    assert app.bodies == [b'{"changed": true}']
    assert app.scopes[0]["headers"] == [(b"x-own", b"1"), (b"content-length", b"17")]


async def test_an_answer_is_sent_without_the_application() -> None:
    answer = Answer(403, "application/json", b'{"no":1}', (("Retry-After", "5"),))
    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, answer))
    app = Speaker(b"x")
    heard = await visit(guarded(app, ScriptedGuard(plane)))
    assert (heard.status, heard.body) == (403, b'{"no":1}')
    assert heard.headers[b"retry-after"] == b"5"
    assert heard.headers[b"content-length"] == b"8"
    assert app.scopes == []
    assert [outcome for _, outcome in plane.closed] == [None]


async def test_a_post_without_a_body_is_malformed_and_a_get_is_a_retrieval() -> None:
    app, guard = Speaker(b'{"a":1}'), ScriptedGuard()
    assert (await visit(guarded(app, guard), body=b"")).status == 400
    assert (await visit(guarded(app, guard), body=b"", method="GET")).status == 200
    assert (await visit(guarded(app, guard), "/v1/responses/resp_1/cancel", body=b"")).status == 200
    assert guard.scripted.requests == [b"", b""]


async def test_a_get_with_a_body_is_decided_by_its_body() -> None:
    app, guard = Speaker(b'{"a":1}'), ScriptedGuard()
    await visit(guarded(app, guard), body=b'{"model":"m"}', method="GET")
    assert guard.scripted.requests == [b'{"model":"m"}']


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/v1/messages/batches", ""),
        ("/v1/messages/Batches", ""),  # for those who ignore case
        ("", "/v1/messages/batches"),
        ("/v1/messages/batches", "/v1/messages"),
    ],
)
async def test_a_batch_of_requests_is_refused(path: str, root: str) -> None:
    app, guard = Speaker(b"{}"), ScriptedGuard()
    heard = await visit(guarded(app, guard), path, root_path=root, raw_path=None)
    assert heard.status == 400
    assert guard.scripted.rejected == [(400, "uninspectable_request")]
    heard = await visit(guarded(app, guard), "/v1/messages/batches/b1", method="GET", body=b"")
    assert heard.status == 200


@pytest.mark.parametrize(("size", "status"), [(9, 200), (10, 200), (11, 413)])
async def test_the_limit_is_exact(size: int, status: int) -> None:
    guard = ScriptedGuard(limits=Limits(max_request_bytes=10))
    app = Speaker(b'{"a":1}')
    assert (await visit(guarded(app, guard), body=b"x" * size)).status == status
    assert (await visit(guarded(app, guard), body=[b"x" * 5, b"x" * (size - 5)])).status == status
    headers = [(b"content-encoding", b"gzip")]
    if size != 10:  # the limit holds before and after decoding; gzip of ten bytes is longer than ten
        guard = ScriptedGuard(limits=Limits(max_request_bytes=60 if status == 200 else 40))
        heard = await visit(guarded(app, guard), body=gzip.compress(b"x" * 50, mtime=0), headers=headers)
        assert heard.status == status


async def test_a_body_in_many_pieces_takes_no_more_memory_than_it_has_bytes() -> None:
    """A client chooses how it cuts its body; every piece is an object of its own."""

    pieces = 100_000

    async def receive() -> Any:
        nonlocal pieces
        pieces -= 1
        return {"type": "http.request", "body": bytes([123, pieces % 128]), "more_body": pieces > 0}

    tracemalloc.start()
    try:
        body = await read_body(receive, [], Limits(), clock := MonotonicClock(), clock())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) == 200_000
    assert peak < 5 * len(body)


async def test_a_length_over_the_limit_is_refused_unread() -> None:
    guard = ScriptedGuard(limits=Limits(max_request_bytes=10))
    seen = Visit(guarded(Speaker(b"x"), guard), headers=[(b"content-length", b"11")])
    assert (await seen.run()).status == 413
    assert seen.received == 0


async def test_a_body_that_does_not_come_times_out() -> None:
    clock = VirtualClock()
    guard = ScriptedGuard(clock=clock, limits=Limits(request_timeout=60))
    seen = Visit(guarded(Speaker(b"x"), guard), body=[])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(59)
        assert seen.heard.messages == []
        await clock.advance(2)
    assert seen.heard.status == 408


async def test_a_client_that_leaves_while_it_asks_is_not_answered() -> None:
    app, guard = Speaker(b"x"), ScriptedGuard()
    seen = Visit(guarded(app, guard), body=[])
    seen.gone.set()
    await seen.run()
    assert seen.heard.messages == []
    assert app.scopes == []
    assert guard.scripted.closed == []


@pytest.mark.parametrize("name", [b"content-type", b"content-encoding", b"content-length"])
async def test_headers_that_contradict_each_other_are_refused(name: bytes) -> None:
    guard = ScriptedGuard()
    twice = {b"content-length": (b"2", b"3")}.get(name, (b"a/b", b"c/d"))
    headers = [(name, twice[0]), (name.title(), twice[1])]
    assert (await visit(guarded(Speaker(b"x"), guard), headers=headers)).status == 400
    headers = [(b"content-type", b"application/json")] * 2
    assert (await visit(guarded(Speaker(b"{}"), guard), headers=headers)).status == 200


@pytest.mark.parametrize("length", [b"-1", b"+2", b"2, 2", b"0x2", b" 2", b""])
async def test_a_length_is_a_number(length: bytes) -> None:
    assert (
        await visit(guarded(Speaker(b"x"), ScriptedGuard()), headers=[(b"content-length", length)])
    ).status == 400


@pytest.mark.parametrize(
    ("label", "status"),
    [
        (b"application/json", 200), (b"application/json; charset=utf-8", 200), (b'text/plain; charset="UTF-8"', 200),
        (b"", 200), (b"text/plain", 200), (b"multipart/form-data; boundary=x", 200), (b"application/x+json", 200),
        (b"application/json; charset=utf-16", 415), (b"application/json;charset=UTF-7", 415),
        (b'application/json; charset="utf-16le"', 415), (b"application/json; charset=utf-8; charset=utf-7", 415),
        (b"application/json; charset*=utf-8''utf-7", 415), (b"application/json; charset*0=utf; charset*1=-7", 415),
        (b"application/json; charset=utf-8, x/y; charset=utf-7", 415), (b"application/json;charset = 'utf8' ;x=1", 200),
    ],
)  # fmt: skip
async def test_a_label_decides_nothing_but_another_charset_is_refused(label: bytes, status: int) -> None:
    guard = ScriptedGuard()
    heard = await visit(guarded(Speaker(b"{}"), guard), headers=[(b"content-type", label)])
    assert heard.status == status
    assert guard.scripted.requests == ([b"{}"] if status == 200 else [])


async def test_an_encoded_body_is_decoded_and_its_header_gone() -> None:
    app, guard = Speaker(b"{}"), ScriptedGuard()
    headers = [(b"content-encoding", b"gzip"), (b"accept-encoding", b"br, gzip"), (b"range", b"bytes=9-")]
    await visit(guarded(app, guard), body=gzip.compress(b'{"a":1}', mtime=0), headers=headers)
    assert app.bodies == guard.scripted.requests == [b'{"a":1}']
    assert app.scopes[0]["headers"] == [(b"content-length", b"7")]


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        (b"gzip", b"{}", 400), (b"gzip", gzip.compress(b"{}", mtime=0) * 2, 400), (b"gzip", gzip.compress(b"{}", mtime=0)[:-3], 400),
        (b"gzip, gzip", b"{}", 415), (b"rot13", b"{}", 415), (b"identity", b"{}", 200),
        (b"gzip", gzip.compress(b" " * 5_000_000, mtime=0), 413),
    ],
)  # fmt: skip
async def test_what_cannot_be_decoded_is_refused(encoding: bytes, body: bytes, status: int) -> None:
    app, guard = Speaker(b"{}"), ScriptedGuard(limits=Limits(max_request_bytes=1_000_000))
    heard = await visit(guarded(app, guard), body=body, headers=[(b"content-encoding", encoding)])
    assert heard.status == status
    assert len(app.scopes) == (status == 200)


async def test_headers_are_frozen_when_the_request_comes_in() -> None:
    """R12: a server that appends trailers to the same list later."""
    app, guard = Speaker(b"{}"), ScriptedGuard()
    seen = Visit(guarded(app, guard), headers=[(b"x-a", b"1")])
    inner = seen.receive

    async def receive() -> Any:
        seen.scope["headers"].append((b"authorization", b"Bearer smuggled"))
        return await inner()

    await seen.app(seen.scope, receive, seen.send)
    assert app.scopes[0]["headers"] == [(b"x-a", b"1"), (b"content-length", b"2")]
    assert app.scopes[0]["headers"] is not seen.scope["headers"]


async def test_the_scope_inside_offers_no_way_around_the_body() -> None:
    app, guard = Speaker(b"{}"), ScriptedGuard()
    names = ["debug", "early_hint", "pathsend", "push", "trailers", "zerocopysend"]
    extensions = {f"http.response.{name}": {} for name in names} | {"tls": {}}
    seen = Visit(guarded(app, guard), extensions=extensions)
    await seen.run()
    assert app.scopes[0]["extensions"] == {"tls": {}}
    assert len(seen.scope["extensions"]) == 7, "the server's own scope is left alone"


async def test_the_application_knows_its_exchange() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen["handle"] = scope["state"]["luthien"]
        assert current_exchange() is seen["handle"]
        seen["handle"].record("host.fact", answer=42)
        await Speaker(b"{}")(scope, receive, send)

    guard = ScriptedGuard()
    headers = [
        (b"authorization", b"Bearer sk-secret"), (b"x-session-id", b"s1"),
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]  # fmt: skip
    heard = await visit(guarded(app, guard), headers=headers)
    handle = seen["handle"]
    assert heard.headers[b"x-luthien-call-id"].decode() == handle.call_id == guard.scripted.closed[0][0]
    assert handle.wire_format == "openai.chat"
    assert handle.metadata.session_id == "s1"
    assert handle.metadata.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert "secret" not in repr(handle.metadata)
    assert guard.scripted.facts == [("host.fact", {"answer": 42})]
    assert current_exchange() is None


async def test_a_key_in_the_incoming_scope_proves_nothing() -> None:
    app, guard = Speaker(b"{}"), ScriptedGuard()
    forged = {"luthien_guard": True, "state": {"luthien": "mine"}}
    await visit(
        guarded(app, guard), headers=[(b"x-luthien-guard", b"1"), (b"x-luthien-call-id", b"1")], **forged
    )
    assert guard.scripted.requests == [b"{}"]
    assert app.scopes[0]["state"]["luthien"] != "mine"


async def test_the_same_guard_twice_guards_once() -> None:
    app, guard = Speaker(b"data: x\n\n"), ScriptedGuard()
    await visit(guarded(guarded(app, guard), guard))
    assert len(guard.scripted.requests) == len(guard.scripted.closed) == 1


async def test_another_guard_further_in_guards_too() -> None:
    app, outer, inner = Speaker(b"data: x\n\n"), ScriptedGuard(), ScriptedGuard()
    await visit(guarded(guarded(app, inner), outer))
    assert len(outer.scripted.requests) == len(inner.scripted.requests) == 1


async def test_a_request_that_the_application_makes_to_itself_is_guarded() -> None:
    guard = ScriptedGuard()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/v1/messages":
            await visit(middleware, "/v1/responses", b'{"inner":1}')
        await Speaker(b"{}")(scope, receive, send)

    middleware = guarded(app, guard)
    await visit(middleware, "/v1/messages")
    assert guard.scripted.requests == [b"{}", b'{"inner":1}']


async def test_after_the_body_receive_is_silent_until_the_client_leaves() -> None:
    got = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        with anyio.move_on_after(0):
            got.append(await receive())
        await Speaker(b"{}").__class__(b"{}", headers=None).__call__(scope, _again(b""), send)
        got.append(await receive())

    def _again(body: bytes) -> Any:
        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        return receive

    await visit(guarded(app, ScriptedGuard()))
    assert got == [{"type": "http.disconnect"}]


async def test_a_server_may_bound_its_receive_by_a_scope_of_its_own() -> None:
    """The guard's own deadline must not come between the two ends of it."""
    seen = Visit(guarded(Speaker(b"{}"), ScriptedGuard()), body=[b"{", b"}"])
    inner = seen.receive

    async def receive() -> Any:
        with anyio.fail_after(60):
            await anyio.lowlevel.checkpoint()
            return await inner()

    await seen.app(seen.scope, receive, seen.send)
    assert seen.heard.complete
