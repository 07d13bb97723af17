"""Streamed answers."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- its tasks are the subject
import gc
import json
from typing import Any

import anyio
import litellm
import pytest
from litellm.types.utils import ModelResponseStream

import luthien_guard
from luthien_guard import Block, Guard, Limits, Policy, hookimpl
from luthien_guard.client import PolicyViolation
from luthien_guard.client.dialects import CHAT
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.records import EventType
from luthien_guard.testing import VirtualClock
from tests.client.calls import (
    MESSAGES,
    Aborts,
    BlocksCalls,
    BlocksRequests,
    BlocksText,
    Retries,
    Upper,
    ask,
    counted,
    holders_of,
    text_of,
)
from tests.client.provider import Provider, chat_body, chat_events

pytestmark = pytest.mark.anyio

WORDS = [f"word{at} " for at in range(12)]


async def test_the_second_example_of_the_readme() -> None:
    text = ""
    async for chunk in await luthien_guard.acompletion(
        "gpt-4o", MESSAGES, mock_response="Hello there", stream=True
    ):
        text += chunk.choices[0].delta.content or ""
    assert text == "Hello there"


@pytest.mark.parametrize("policies", [[], ["noop"], [Upper()], [BlocksText()]])
async def test_a_stream_is_what_litellm_gives(provider: Provider, policies: list[Any]) -> None:
    provider.answers = [chat_events(*WORDS)]
    stream = await ask(Guard(policies), provider, stream=True)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    chunks = [chunk async for chunk in stream]
    assert {type(chunk) for chunk in chunks} == {ModelResponseStream}
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    text = "".join(WORDS)
    assert built.choices[0].message.content == (
        text.upper() if policies and type(policies[0]) is Upper else text
    )
    assert built.choices[0].finish_reason == "stop"
    assert stream.chunks == chunks
    assert stream.custom_llm_provider == "openai"
    assert stream._hidden_params["additional_headers"]
    if hasattr(litellm.CustomStreamWrapper, "hidden_params"):  # older ones have none
        assert stream.hidden_params is stream._hidden_params


async def test_an_unchanged_chunk_is_the_very_object_of_litellm(provider: Provider) -> None:
    seen: list[Any] = []

    class Sees(Policy):
        @hookimpl
        def on_content_chunk(self, chunk: Any, ctx: Any) -> None:
            seen.append(chunk.text)

    provider.answers = [chat_events(*WORDS)]
    stream = await ask(Guard([Sees()]), provider, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(seen) == "".join(WORDS)
    # litellm puts its own notes on its objects; chunks made from JSON would have none of a later chunk
    assert len({chunk._hidden_params["created_at"] for chunk in chunks}) == len(chunks)


async def test_usage_comes_for_who_asks_and_only_then(provider: Provider) -> None:
    usage = {
        **chat_events()[0],
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    events = chat_events(*WORDS)
    provider.answers = [[*events[:-1], usage, events[-1]]]
    for policies in ([], [Upper()], [BlocksText()]):
        stream = await ask(Guard(policies), provider, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage.total_tokens == 7
        silent = [chunk async for chunk in await ask(Guard(policies), provider, stream=True)]
        assert all(chunk.choices for chunk in silent)


async def test_choices_do_not_mix(provider: Provider) -> None:
    provider.answers = [chat_events(*WORDS, choices=2)]
    stream = await ask(Guard([Upper()]), provider, stream=True, n=2)
    texts = {0: "", 1: ""}
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == dict.fromkeys((0, 1), "".join(WORDS).upper())


async def test_tool_calls_stream_and_can_be_blocked(provider: Provider) -> None:
    provider.answers = [chat_events("Sure. ", calls=[("bash", '{"cmd": "ls"}'), ("read", '{"path": "x"}')])]
    chunks = [chunk async for chunk in await ask(Guard(["noop", Upper()]), provider, stream=True)]
    built = litellm.stream_chunk_builder(chunks)
    assert [call.function.name for call in built.choices[0].message.tool_calls] == ["bash", "read"]
    assert built.choices[0].message.tool_calls[1].function.arguments == '{"path": "x"}'
    assert built.choices[0].finish_reason == "tool_calls"
    chunks = [chunk async for chunk in await ask(Guard([BlocksCalls()]), provider, stream=True)]
    built = litellm.stream_chunk_builder(chunks)
    assert not built.choices[0].message.tool_calls
    assert built.choices[0].finish_reason == "stop"
    assert not any("cmd" in chunk.model_dump_json() for chunk in chunks)


@pytest.mark.parametrize("policy", [BlocksText(), Aborts(), BlocksRequests()])
async def test_a_block_ends_the_stream_well(provider: Provider, policy: Policy) -> None:
    provider.answers = [chat_events("The ", "SECRET", " is 42", *WORDS)]
    guard, steps = counted(policy)
    stream = await ask(guard, provider, stream=True)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    chunks = [chunk async for chunk in stream]
    built = litellm.stream_chunk_builder(chunks)
    assert "SECRET" not in built.choices[0].message.content
    assert "42" not in built.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.choices for chunk in chunks)
    assert len(steps.closed) == 1
    assert guard.records_of(steps.closed[0][0])[-1].details["outcome"] == "blocked"


@pytest.mark.parametrize("policy", [BlocksText(), Aborts(), BlocksRequests(), BlocksCalls()])
async def test_a_block_can_be_an_exception(provider: Provider, policy: Policy) -> None:
    provider.answers = [chat_events("The ", "SECRET", " is 42", calls=[("bash", "{}")])]
    guard, steps = counted(policy)
    text = ""
    with pytest.raises(PolicyViolation) as caught:
        async for chunk in await ask(guard, provider, stream=True, on_block="raise"):
            text += chunk.choices[0].delta.content or ""
    assert caught.value.policy == policy.name
    if not isinstance(policy, BlocksCalls):
        assert "SECRET" not in text
        assert "42" not in text
    assert len(steps.closed) == 1


async def test_text_that_was_kept_back_is_in_no_attribute(provider: Provider) -> None:
    provider.answers = [chat_events("The ", "SECRET", *WORDS)]
    stream = await ask(Guard([Aborts()]), provider, stream=True)
    await text_of(stream)
    assert not holders_of("SECRET", stream)
    assert stream.custom_llm_provider == "openai"
    assert "SECRET" not in str(stream.chunks)


async def test_a_stream_that_no_policy_looks_at_has_all_attributes(provider: Provider) -> None:
    provider.answers = [chat_events(*WORDS)]
    stream = await ask(Guard(), provider, stream=True)
    text = await text_of(stream)
    assert (text, stream.received_finish_reason) == (stream.response_uptil_now, "stop")


async def test_a_retry_streams_the_second_answer(provider: Provider) -> None:
    provider.answers = [chat_events("again"), chat_events(*WORDS)]
    guard, steps = counted(Retries("openai/gpt-4o-mini"))
    assert await text_of(await ask(guard, provider, stream=True)) == "".join(WORDS)
    assert [body["model"] for body in provider.bodies] == ["gpt-4o", "gpt-4o-mini"]
    assert len(steps.closed) == 1


async def test_an_error_in_the_stream_is_litellms(provider: Provider) -> None:
    provider.answers = [chat_events("one ", b"data: {broken\n\n")]
    bare = "none"
    try:
        await text_of(
            await litellm.acompletion(
                "openai/gpt-4o", MESSAGES, stream=True, api_base=provider.url, api_key="k"
            )
        )
    except Exception as error:
        bare = type(error).__name__
    guard, steps = counted(Upper())
    with pytest.raises(Exception) as caught:
        await text_of(await ask(guard, provider, stream=True))
    assert type(caught.value).__name__ == bare
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.UPSTREAM_ERROR]


async def test_policies_that_wait_are_waited_for(provider: Provider) -> None:
    class Asks(Policy):
        waits = True

        @hookimpl
        async def on_tool_call_completed(self, call: Any, ctx: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return call.replace(arguments="{}")

    provider.answers = [chat_events("Sure. ", calls=[("bash", '{"cmd": "ls"}')])]
    chunks = [chunk async for chunk in await ask(Guard([Asks()]), provider, stream=True)]
    call = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0]
    assert call.function.arguments == "{}"


# -- the end ---------------------------------------------------------------------------------------------------------


class Ponders(Policy):
    """In shadow: of each piece, until it is told to go on."""

    waits = True

    def __init__(self) -> None:
        self.answer = anyio.Event()

    @hookimpl
    async def on_content_chunk(self, ctx: Any) -> Block:
        await self.answer.wait()
        return Block("too late to have a say")


@pytest.mark.parametrize("others", [[], [Upper()]])
async def test_no_chunk_waits_for_a_shadow_that_asks_somebody(
    provider: Provider, others: list[Policy]
) -> None:
    policy = Ponders()
    provider.answers = [chat_events(*WORDS)]
    guard = Guard([{"use": policy, "mode": "shadow"}, *others])
    stream = await ask(guard, provider, stream=True)
    chunks: list[Any] = []
    with anyio.fail_after(30):
        while not any(chunk.choices[0].finish_reason for chunk in chunks):
            chunks.append(await anext(stream))
        policy.answer.set()
        chunks += [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.lower() == "".join(WORDS)
    records = guard.records_of(guard.recent_calls[-1])
    assert len([each for each in records if each.type is EventType.VERDICT]) == len(WORDS)
    assert records[-1].details["outcome"] == "success"


async def test_closing_early_closes_upstream_and_the_exchange_once(provider: Provider) -> None:
    provider.answers = [chat_events("one ", Provider.PAUSE, "two ")]
    guard, steps = counted(Upper())
    stream = await ask(guard, provider, stream=True)
    assert await _first_text(stream) == "ONE "
    await stream.aclose()
    await stream.aclose()
    assert await anyio.to_thread.run_sync(provider.gone.wait, 10)
    assert [chunk async for chunk in stream] == []
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.CANCELLED]


STEPS = ["decide", "ask", "open", "feed", "upstream", "feed last", "settle"]


class _Waits(Policy):
    waits = True

    @hookimpl
    async def on_tool_call_completed(self, call: Any, ctx: Any) -> None:
        """Makes a verdict pending."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_caller_leaves_nothing_behind(provider: Provider, step: str, stream: bool) -> None:
    if step == "feed" and not stream:
        step = "feed last"
    if step == "ask":
        provider.answers = [[Provider.PAUSE]]
    else:
        pause = [Provider.PAUSE] if step == "upstream" else []
        provider.answers = [chat_events("one ", *pause, calls=[("bash", "{}")])]
        if not stream and step != "upstream":
            provider.answers = [chat_body("one", calls=[("bash", "{}")])]
    guard, steps = counted(_Waits(), stop=step)

    async def call() -> None:
        answer = await ask(guard, provider, stream=stream)
        if stream:
            await text_of(answer)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        if step in ("ask", "upstream"):
            await anyio.to_thread.run_sync(provider.paused.wait, 10)
        else:
            await steps.stopped.wait()
        tasks.cancel_scope.cancel()
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.CANCELLED]
    if step in ("ask", "upstream"):
        assert await anyio.to_thread.run_sync(provider.gone.wait, 10)


async def test_an_abandoned_stream_warns_and_is_closed(provider: Provider) -> None:
    provider.answers = [chat_events(*WORDS)]
    guard, steps = counted(Upper())
    stream = await ask(guard, provider, stream=True)
    async for _ in stream:
        break
    inner = stream._inner
    with pytest.warns(ResourceWarning, match="was not closed"):
        del stream
        gc.collect()
    await inner.aclose()
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.CANCELLED]
    assert guard.records_of(steps.closed[0][0])[-1].details["outcome"] == "cancelled"


async def test_two_readers_at_once_are_told(provider: Provider) -> None:
    provider.answers = [chat_events("one ", Provider.PAUSE)]
    stream = await ask(Guard([Upper()]), provider, stream=True)
    await _first_text(stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_ignore, stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="already being read"):
            await stream.__anext__()
        tasks.cancel_scope.cancel()


async def _first_text(stream: Any) -> str:
    """litellm begins with a chunk that has a role and no text."""
    while True:
        text: str = (await stream.__anext__()).choices[0].delta.content
        if text:
            return text


async def _ignore(stream: Any) -> None:
    await stream.__anext__()


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "message"),
    [(Limits(idle_timeout=50), "silent for 50 seconds"), (Limits(total_timeout=90), "total time-out")],
)
@pytest.mark.parametrize("policies", [[], [Upper()]])
async def test_a_silent_upstream_is_a_timeout(
    provider: Provider, limits: Limits, message: str, policies: list[Any]
) -> None:
    provider.answers = [chat_events("one ", Provider.PAUSE)]
    clock = VirtualClock()
    guard, steps = counted(*policies, clock=clock, limits=limits)
    stream = await ask(guard, provider, stream=True)
    await _first_text(stream)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.advance, 100)
        with pytest.raises(litellm.Timeout, match=message):
            await stream.__anext__()
    assert await anyio.to_thread.run_sync(provider.gone.wait, 10)
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.TIMEOUT]


@pytest.mark.parametrize("in_one_task", [False, True])
async def test_silence_in_real_time(provider: Provider, in_one_task: bool) -> None:
    provider.answers = [chat_events("one ", Provider.PAUSE)]
    guard, steps = counted(limits=Limits(idle_timeout=1))
    stream = await ask(guard, provider, stream=True)

    async def read() -> None:
        while True:
            await (stream.__anext__() if in_one_task else asyncio.create_task(_ignore(stream)))

    with pytest.raises(litellm.Timeout, match="silent for 1 seconds"):
        await read()
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.TIMEOUT]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_never_begins_is_a_timeout(provider: Provider, stream: bool) -> None:
    clock = VirtualClock()
    guard, steps = counted(clock=clock, limits=Limits(total_timeout=90), stop="decide")

    async with anyio.create_task_group() as tasks:

        async def later() -> None:
            await steps.stopped.wait()
            await clock.advance(100)

        tasks.start_soon(later)
        with pytest.raises(litellm.Timeout, match="the request's policies took longer"):
            await ask(guard, provider, stream=stream)
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.TIMEOUT]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hook_that_hangs_blocks(provider: Provider, stream: bool) -> None:
    hanging = anyio.Event()

    class Hangs(Policy):
        name = "hangs"

        @hookimpl
        async def on_content_chunk(self, chunk: Any, ctx: Any) -> None:
            if chunk.text:
                hanging.set()
                await anyio.sleep_forever()

    provider.answers = [chat_events("one ", "two ") if stream else chat_body("one two")]
    clock = VirtualClock()
    guard, steps = counted(Hangs(), clock=clock)
    text = ""

    async with anyio.create_task_group() as tasks:

        async def later() -> None:
            await hanging.wait()
            await clock.advance(40)

        tasks.start_soon(later)
        answer = await ask(guard, provider, stream=stream)
        text = await text_of(answer) if stream else answer.choices[0].message.content
    assert text == "⛔ Blocked by the policy hangs."
    assert len(steps.closed) == 1


async def test_a_policy_that_raises_blocks(provider: Provider) -> None:
    class Raises(Policy):
        name = "raises"

        @hookimpl
        def on_content_chunk(self, chunk: Any, ctx: Any) -> Any:
            raise ValueError("oops")

    provider.answers = [chat_events(*WORDS)]
    assert (
        await text_of(await ask(Guard([Raises()]), provider, stream=True))
        == "⛔ Blocked by the policy raises."
    )
    with pytest.raises(PolicyViolation):
        await text_of(await ask(Guard([Raises()]), provider, stream=True, on_block="raise"))


CHANGED: list[dict[str, Any]] = [
    {"content": "other"},
    {"content": "other", "role": "assistant"},
    {"content": ""},
    {"content": "other", "reasoning_content": "hm"},
    {
        "content": "other",
        "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}],
    },
]


@pytest.mark.parametrize("delta", CHANGED)
@pytest.mark.parametrize(
    "more", [{}, {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}]
)
def test_a_changed_chunk_is_what_litellm_makes_of_its_json(
    delta: dict[str, Any], more: dict[str, Any]
) -> None:
    """Whether it was made anew or copied; and the one that came is not touched."""
    data = {
        "id": "a", "created": 1, "model": "m", "object": "chat.completion.chunk", "provider_said": "x",
        "choices": [{"index": 0, "delta": {**delta, "content": "came"}, "finish_reason": None}], **more,
    }  # fmt: skip
    like = ModelResponseStream(**data)
    came = like.model_dump()
    wanted = json.loads(CHAT.json(ModelResponseStream(**_with(data, delta))))
    made = CHAT.chunk(json.loads(json.dumps(wanted)), like, CHAT.json(like))
    assert type(made) is ModelResponseStream
    assert json.loads(CHAT.json(made)) == wanted
    assert made.choices[0].delta.content == delta["content"]
    assert type(made.choices[0].delta) is type(like.choices[0].delta)
    assert like.model_dump() == came


def _with(data: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    return {**data, "choices": [{**data["choices"][0], "delta": delta}]}


@pytest.mark.parametrize("policy", [BlocksText(), Upper()])
async def test_what_upstream_said_before_it_failed_is_as_guarded_in_the_exception(
    provider: Provider, policy: Policy
) -> None:
    """litellm's exception says how much was generated by then."""
    provider.answers = [[*chat_events("a ", "SECRET")[:-2], {"error": {"message": "boom", "code": 500}}]]
    stream = await ask(Guard([policy]), provider, stream=True)
    with pytest.raises(litellm.exceptions.MidStreamFallbackError) as raised:
        await text_of(stream)
    assert raised.value.generated_content == ("A SECRET" if isinstance(policy, Upper) else "")
