"""Another attempt begins anew: what policies counted in an answer that nobody gets does not count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from luthien_guard import (
    Block,
    ChatRequest,
    ContentCompleted,
    Policy,
    PolicyContext,
    Retry,
    ToolCall,
    hookimpl,
)
from luthien_guard.control_plane.service import Release
from luthien_guard.events import ResponseCompleted
from luthien_guard.testing import Script, run
from tests.engine.drive import Bench
from tests.engine.lines import wire

pytestmark = pytest.mark.anyio

NONSENSE = Script().text("utter nonsense").tool_call("a", {}).tool_call("b", {}).tool_call("c", {})


@dataclass
class Seen:
    calls: int = 0
    prompts: list[str] = field(default_factory=list)


class AskAgain(Policy):
    """Until the limit, which its own count outlives."""

    hold = "response"

    @hookimpl
    def on_response_completed(self, response: ResponseCompleted, ctx: PolicyContext) -> Retry | None:
        tries = ctx.scratchpad["tries"] = ctx.scratchpad.get("tries", 0) + 1
        if "nonsense" not in response.text:
            return None
        return Retry(f"nonsense {tries}", model="another-model")


class AtMostThreeCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Block | None:
        seen = ctx.state(Seen)
        seen.calls += 1
        return Block("more than three tool calls") if seen.calls > 3 else None


class Remembers(Policy):
    """What was in the request, for each answer to it."""

    @hookimpl
    def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> None:
        ctx.state(Seen).prompts.append(
            next(each.text for each in request.texts() if each.path[-1] == "content")
        )

    @hookimpl
    def on_request_completed(self, request: ChatRequest, ctx: PolicyContext) -> None:
        ctx.state(Seen).prompts.append(request.model)

    @hookimpl
    def on_content_completed(self, content: ContentCompleted, ctx: PolicyContext) -> ContentCompleted:
        return content.replace(text=" ".join([*ctx.state(Seen).prompts, content.text]))


async def test_what_was_seen_of_an_answer_that_nobody_gets_is_forgotten() -> None:
    good = Script().text("Sense.").tool_call("a", {}).tool_call("b", {}).tool_call("c", {})
    runs = await run([AtMostThreeCalls(), AskAgain()], [NONSENSE, NONSENSE, good], cuts="whole")
    runs.assert_released("Sense.", tool_calls=["a", "b", "c"])


async def test_words_are_counted_anew() -> None:
    third = {"use": "uppercase-nth-word", "config": {"n": 3}}
    scripts = [Script().text("utter nonsense"), Script().text("one two three four")]
    (await run([third, AskAgain()], scripts, cuts="whole")).assert_released("one two THREE four")


async def test_what_was_seen_of_the_request_stays() -> None:
    runs = await run(
        [AskAgain(), Remembers()], [NONSENSE, Script().text("?")], wire_formats=["openai.chat"], cuts="whole"
    )
    runs.assert_released("Hello scripted-model another-model ?")


async def test_the_scratchpad_stays() -> None:
    runs = await run([AskAgain()], NONSENSE, cuts="whole")
    runs.assert_outcome("blocked")
    assert {each.outcome.reason for each in runs} == {"nonsense 3"}


class LooksTwice(Policy):
    """Takes its time with the request of another attempt."""

    hold = "response"
    go_on: Any = None

    @hookimpl
    async def on_request_completed(self, request: ChatRequest) -> None:
        if request.model == "another-model":
            await type(self).go_on.wait()

    @hookimpl
    def on_response_completed(self) -> Retry:
        return Retry("once more", model="another-model")


async def test_no_keep_alive_comes_between_an_attempt_and_the_next() -> None:
    LooksTwice.go_on = anyio.Event()
    bench = Bench([LooksTwice()])
    await bench.begin()
    releases: list[Release] = []

    async def feed() -> None:
        releases.append(await bench.stream.feed(wire({"text": "a"}, {"finish": "stop"}), last=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        await anyio.wait_all_tasks_blocked()
        assert bench.stream.keepalive() == b""
        LooksTwice.go_on.set()
    assert [release.retry for release in releases] == [b'{"model": "another-model"}']
