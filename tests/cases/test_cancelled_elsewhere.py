"""A cancellation that is not this task's is a failure like any other: told at once, fail closed, nothing left hanging.
So is a GeneratorExit that is raised by hand, and of a policy an exit."""

from __future__ import annotations

import argparse
import asyncio  # noqa: TID251 -- its cancellations are the subject
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from luthien_guard import Guard, GuardMiddleware, Policy, hookimpl
from luthien_guard.asgi.types import ASGIApp
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.records import EventType
from luthien_guard.testing import Script, render
from tests.asgi_drive import Reply, ask, replay

pytestmark = pytest.mark.anyio

MARKER = "never-to-be-seen"
REQUEST = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
SCRIPT = render(
    Script().text(f"so {MARKER} it is").tool_call("bash", {"c": MARKER}), "openai.chat", stream=True
)
HOOKS = [
    "on_request_started",
    "on_response_started",
    "on_chunk_started",
    "on_content_chunk",
    "on_content_completed",
    "on_tool_call_completed",
    "on_response_completed",
]


class Odd(BaseException):
    """Neither an Exception nor a cancellation."""


async def awaits_what_somebody_cancelled() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # on trio: a policy that drives an asyncio of its own
        raise asyncio.CancelledError from None
    other = asyncio.ensure_future(asyncio.sleep(3600))
    loop.call_soon(other.cancel)
    await other


async def raises_it_at_once() -> None:
    raise asyncio.CancelledError


async def raises_something_odd() -> None:
    await anyio.lowlevel.checkpoint()
    raise Odd("odd")


async def closes_itself() -> None:
    raise GeneratorExit


async def closes_itself_later() -> None:
    await anyio.lowlevel.checkpoint()
    raise GeneratorExit


async def parses_its_arguments() -> None:
    argparse.ArgumentParser("judge", exit_on_error=True).parse_args(["--unknown"])  # sys.exit(2)


FAILURES = [
    awaits_what_somebody_cancelled,
    raises_it_at_once,
    raises_something_odd,
    closes_itself,
    closes_itself_later,
]
RAISED: dict[object, type[BaseException]] = {
    raises_something_odd: Odd,
    closes_itself: GeneratorExit,
    closes_itself_later: GeneratorExit,
}
TOLD = ("CancelledError", "Odd", "GeneratorExit", "SystemExit")


def failing(hook: str, failure: Callable[[], Awaitable[None]], **attributes: Any) -> Policy:
    async def fails(self: Any, ctx: Any) -> None:
        await failure()

    return type("Failing", (Policy,), {hook: hookimpl(specname=hook)(fails), **attributes})()


async def through(guard: Guard, app: ASGIApp) -> Reply:
    with anyio.fail_after(20):  # it hung until the exchange's deadline
        return await ask(GuardMiddleware(app, guard=guard), "/v1/chat/completions", REQUEST)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize("failure", [*FAILURES, parses_its_arguments])
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_policy_that_lets_it_out_has_failed(
    hook: str, failure: Callable[[], Awaitable[None]], step: int, waits: bool
) -> None:
    guard = Guard(
        [failing(hook, failure, waits=waits, hold="response" if hook == "on_response_completed" else "")]
    )
    body = SCRIPT.body
    cuts = [step] * (len(body) // step) if step else []
    reply = await through(guard, replay(body, status=200, content_type="text/event-stream", cuts=cuts))
    assert reply.finished
    assert MARKER.encode() not in reply.body or hook == "on_tool_call_completed"
    records = guard.records_of(guard.recent_calls[-1])
    told = [record.details["error"] for record in records if record.type is EventType.POLICY_ERROR]
    assert told
    assert all(each.startswith(TOLD) for each in told)
    assert records[-1].details["outcome"] == OutcomeStatus.POLICY_ERROR.value


@pytest.mark.parametrize("policies", [[], ["noop"], [failing("on_exchange_closed", raises_it_at_once)]])
@pytest.mark.parametrize("began", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
async def test_an_application_that_lets_it_out_has_failed(
    failure: Callable[[], Awaitable[None]], began: bool, policies: list[Any]
) -> None:
    guard, raised = Guard(policies), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if began:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": SCRIPT.body[:90], "more_body": True})
        await failure()

    async def host(scope: Any, receive: Any, send: Any) -> None:
        try:
            await GuardMiddleware(app, guard=guard)(scope, receive, send)
        except BaseException as error:
            raised.append(type(error))

    with anyio.fail_after(20):
        for _ in range(2):  # watched, then as the first answer has taught it
            reply = await ask(host, "/v1/chat/completions", REQUEST)
            assert reply.finished == began
            records = guard.records_of(guard.recent_calls[-1])
            assert records[-1].details["outcome"] == OutcomeStatus.UPSTREAM_ERROR.value
    assert raised == [RAISED.get(failure, asyncio.CancelledError)] * 2
