"""Every answer carries the id of its exchange, and under that id is a record with exactly one end: whatever became of it."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Block, ChatRequest, Guard, GuardMiddleware, Limits, Policy, hookimpl
from luthien_guard.records import EventType
from tests.asgi_drive import Reply, ask, replay

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
ASKED = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
JSON = "application/json"


class NoRequests(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Block:
        return Block("no")


class Fails(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> None:
        raise KeyError("x")


class Sees(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: Any) -> None: ...


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers nothing."""


async def forged(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"X-Luthien-Call-Id", b"forged")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


fine = replay(b"{}", status=200, content_type=JSON)
CASES: dict[str, tuple[Any, Any, bytes, list[tuple[bytes, bytes]], dict[str, Any], int]] = {
    # name: application, policies, body, headers, guard's arguments, status
    "passes": (fine, [], ASKED, [], {}, 200),
    "looked at": (fine, [Sees()], ASKED, [], {}, 200),
    "the application names another": (forged, [Sees()], ASKED, [], {}, 200),
    "and nobody looks": (forged, [], ASKED, [], {}, 200),
    "refused": (fine, [NoRequests()], ASKED, [], {}, 200),
    "refused as an error": (fine, [NoRequests()], ASKED, [], {"on_block": "error"}, 400),
    "a policy that fails": (fine, [Fails()], ASKED, [], {"on_block": "error"}, 400),
    "no JSON": (fine, [], b"{", [], {}, 400),
    "a key twice": (fine, [], b'{"model":"m","model":"n"}', [], {}, 400),
    "too large": (fine, [], ASKED, [], {"limits": Limits(max_request_bytes=10)}, 413),
    "an encoding nobody knows": (fine, [], ASKED, [(b"content-encoding", b"lzma")], {}, 415),
    "upstream refuses": (replay(b'{"error":{}}', status=429, content_type=JSON), [Sees()], ASKED, [], {}, 429),
    "upstream says what nobody can read": (replay(b"<html>", status=200, content_type="text/html"), [Sees()], ASKED, [], {}, 200),
    "the application is silent": (silent, [Sees()], ASKED, [], {}, 502),
}  # fmt: skip


def the_id(reply: Reply) -> str:
    (id,) = [value for name, value in reply.headers if name.lower() == b"x-luthien-call-id"]
    return id.decode()


@pytest.mark.parametrize("name", CASES)
async def test_whatever_becomes_of_it(name: str) -> None:
    application, policies, body, headers, arguments, status = CASES[name]
    guard = Guard(policies, **arguments)
    async with guard:
        reply = await ask(GuardMiddleware(application, guard=guard), PATH, body, headers=headers)
    assert reply.status == status, reply.body
    types = [record.type for record in guard.records_of(the_id(reply))]
    assert types[0] is EventType.REQUEST_RECEIVED
    assert types.count(EventType.CLOSED) == 1
