"""A server that ends, or a host that has no more time, cancels what runs: no client takes that for its answer's end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.testing import Script, render
from tests.asgi.host import SSE, Visit
from tests.cases.test_cancelled_elsewhere import MARKER, failing

pytestmark = pytest.mark.anyio

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}
ENDS = {
    "openai.chat": b'"code":"cancelled"}}\n\ndata: [DONE]\n\n',
    "anthropic.messages": b'"message":"the server ended this answer before it was complete"}}\n\n',
    "openai.responses": b'"code":"cancelled","message":"the server ended this answer before it was complete"}',
}
BODY = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}],"input":"hi"}'


class Begun:
    """An application that has said a part of its answer, and goes on for ever."""

    def __init__(self, wire_format: str) -> None:
        self.said = anyio.Event()
        whole = render(Script().text(f"so {MARKER} it is"), wire_format, stream=True).body
        self.part = whole[: whole.rindex(b"\n\n", 0, len(whole) * 2 // 3) + 7]  # into an event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": self.part, "more_body": True})
        self.said.set()
        await anyio.sleep_forever()


async def cancelled(
    guard: Guard, wire_format: str, on_send: Callable[[dict[str, Any]], Any] | None = None
) -> Visit:
    """The second exchange: the first has told the middleware what to prepare for."""
    app = Begun(wire_format)
    middleware = GuardMiddleware(app, guard=guard)
    for _ in range(2):
        app.said = anyio.Event()
        seen = Visit(middleware, PATHS[wire_format], BODY, on_send=on_send)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            with anyio.fail_after(20):
                await app.said.wait()
            tasks.cancel_scope.cancel()
    return seen


def outcome(guard: Guard) -> object:
    return guard.records_of(guard.recent_calls[-1])[-1].details["outcome"]


@pytest.mark.parametrize("policies", [[], ["noop"]])
@pytest.mark.parametrize("wire_format", PATHS)
async def test_a_stream_that_is_cut_off_says_so(wire_format: str, policies: list[Any]) -> None:
    guard = Guard(policies)
    seen = await cancelled(guard, wire_format)
    assert seen.heard.complete
    assert ENDS[wire_format] in seen.heard.body
    assert outcome(guard) == OutcomeStatus.CANCELLED.value


async def test_before_its_first_byte_it_is_the_host_s_to_answer() -> None:
    """Who gives an application so many seconds has a word of its own for it."""
    guard = Guard(["noop"])

    async def timed(scope: Any, receive: Any, send: Any) -> None:
        async def app(*_: Any) -> None:
            limit.cancel()
            await anyio.sleep_forever()

        with anyio.CancelScope() as limit:
            await GuardMiddleware(app, guard=guard)(scope, receive, send)
        await send({"type": "http.response.start", "status": 504, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})

    heard = await Visit(timed, PATHS["openai.chat"], BODY).run()
    assert (heard.status, heard.body) == (504, b"late")
    assert outcome(guard) == OutcomeStatus.CANCELLED.value


async def test_a_client_that_has_left_is_no_error() -> None:
    guard = Guard(["noop"])

    def last(message: dict[str, Any]) -> None:
        if b"cancelled" in message.get("body", b""):
            raise OSError("gone")

    await cancelled(guard, "openai.chat", last)
    assert outcome(guard) == OutcomeStatus.CANCELLED.value


@pytest.mark.parametrize(
    "policies",
    [[], ["noop"], [failing("on_content_completed", anyio.sleep_forever, waits=True)]],
)
async def test_nobody_waits_for_a_client_that_does_not_read(policies: list[Any]) -> None:
    """What takes the records ends soon: they are closed before."""
    guard = Guard(policies)

    async def stuck() -> None:
        await anyio.sleep_forever()

    def last(message: dict[str, Any]) -> Any:
        return stuck() if b"cancelled" in message.get("body", b"") else None

    with anyio.fail_after(4):  # less than `close_timeout`
        await cancelled(guard, "openai.chat", last)
    assert outcome(guard) == OutcomeStatus.CANCELLED.value
