"""An application that puts the guarded functions where litellm's stand: below a framework, or below litellm's Router."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import litellm
import pytest
from anyio import to_thread

import luthien_guard
from luthien_guard import Guard, Policy, hookimpl
from luthien_guard.client.litellm_api import function
from luthien_guard.exchange import OutcomeStatus
from tests.client.calls import MESSAGES, BlocksRequests, BlocksText, Upper, counted, text_of
from tests.client.provider import (
    Provider,
    chat_body,
    chat_events,
    message_body,
    response_body,
    response_events,
)

pytestmark = pytest.mark.anyio

NAMES = ("acompletion", "completion", "aresponses", "anthropic_messages")


@contextmanager
def replaced(by: Callable[[str], Any]) -> Iterator[None]:
    """litellm's functions are those that `by` gives for their names."""
    own = {name: getattr(litellm, name) for name in NAMES}
    for name in NAMES:
        setattr(litellm, name, by(name))
    try:
        yield
    finally:
        for name, each in own.items():
            setattr(litellm, name, each)


def of(guard: Guard) -> Callable[[str], Any]:
    return lambda name: getattr(guard, name)


@pytest.mark.parametrize("name", NAMES)
def test_litellms_own_is_found_behind_ours(name: str) -> None:
    own, guard = getattr(litellm, name), Guard()
    signature = str(inspect.signature(own))
    assert function(name) is own
    for by in (
        of(guard),
        lambda name: partial(getattr(guard, name), on_block="raise"),
        lambda name: getattr(luthien_guard, name),
    ):
        with replaced(by):
            assert function(name) is own
            assert str(inspect.signature(getattr(luthien_guard, name))) == signature


def test_what_others_put_there_is_asked() -> None:
    def other(**kwargs: Any) -> None: ...

    with replaced(lambda name: other):
        assert function("completion") is other


async def test_each_function_asks_litellms_own(provider: Provider) -> None:
    guard, steps = counted(Upper())
    given: dict[str, Any] = {"api_key": "k", "messages": MESSAGES, "max_tokens": 9}
    chat = {**given, "model": "openai/gpt-4o", "api_base": f"{provider.url}/v1"}
    with replaced(of(guard)):
        provider.answers = [chat_body("hello")]
        answer: Any = await litellm.acompletion(**chat)
        assert answer.choices[0].message.content == "HELLO"
        answer = await to_thread.run_sync(lambda: litellm.completion(**chat))
        assert answer.choices[0].message.content == "HELLO"
        provider.answers = [response_body("hello")]
        answer = await litellm.aresponses(
            input="hey", model="openai/gpt-4o", api_base=chat["api_base"], api_key="k"
        )
        assert answer.output[0].content[0].text == "HELLO"
        provider.answers = [message_body("hello")]
        answer = await litellm.anthropic_messages(
            **{**given, "model": "anthropic/claude-sonnet-4-5", "api_base": provider.url}
        )
        assert answer["content"][0]["text"] == "HELLO"
    assert len(steps.closed) == len(provider.bodies) == len(NAMES)


class Judged(Policy):
    name = "judged"
    waits = True

    @hookimpl
    async def on_content_completed(self, content: Any, ctx: Any) -> Any:
        said = await ctx.judge(MESSAGES, model="openai/gpt-4o", mock_response="fine")
        return content.replace(text=f"{content.text}: {said}")


async def test_a_judge_is_not_judged() -> None:
    guard, steps = counted(Judged())
    with replaced(of(guard)):
        answer: Any = await litellm.acompletion(model="gpt-4o", messages=MESSAGES, mock_response="hello")
    assert answer.choices[0].message.content == "hello: fine"
    assert len(steps.closed) == 1


# -- litellm's Router --------------------------------------------------------------------------------------------------


def router(provider: Provider, **settings: Any) -> Any:
    base = {"api_base": f"{provider.url}/v1", "api_key": "k"}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **base}}
        for name in ("first", "second")
    ]
    return litellm.Router(model_list=models, num_retries=0, **settings)


async def test_a_router_asks_through_the_guard(provider: Provider) -> None:
    with replaced(of(Guard([Upper()]))):
        provider.answers = [chat_body("hello")]
        answer = await router(provider).acompletion("first", MESSAGES)
        assert answer.choices[0].message.content == "HELLO"
        provider.answers = [response_events("hel", "lo")]
        events = [
            each async for each in await router(provider).aresponses(model="first", input="hi", stream=True)
        ]
        assert "".join(getattr(each, "delta", "") for each in events) == "HELLO"


@pytest.mark.parametrize(
    ("policies", "text"),
    [
        ([], "hello"),
        ([Upper()], "HELLO"),
        ([BlocksText()], "hello"),
        ([BlocksRequests()], "No questions, please."),
    ],
)
async def test_a_router_streams(provider: Provider, policies: list[Policy], text: str) -> None:
    guard, steps = counted(*policies)
    provider.answers = [chat_events("hel", "lo")]
    with replaced(of(guard)):
        stream = await router(provider).acompletion("first", MESSAGES, stream=True)
        assert await text_of(stream) == text
        sync = await to_thread.run_sync(
            lambda: list(router(provider).completion("first", MESSAGES, stream=True))
        )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in sync) == text
    assert len(steps.closed) == 2


async def test_a_router_learns_nothing_that_was_kept_back(provider: Provider) -> None:
    provider.answers = [chat_events("the ", "SECRET ", "word")]
    with replaced(of(Guard([BlocksText()]))):
        stream = await router(provider).acompletion("first", MESSAGES, stream=True)
        assert await text_of(stream) == "That is secret."
    assert "SECRET" not in repr((vars(stream), vars(stream.logging_obj)))


async def test_a_block_falls_back_to_another_model(provider: Provider) -> None:
    guard, steps = counted(BlocksText(), on_block="raise")
    provider.answers = [chat_body("SECRET"), chat_body("hello")]
    with replaced(of(guard)):
        found = await router(provider, content_policy_fallbacks=[{"first": ["second"]}]).acompletion(
            "first", MESSAGES
        )
    assert found.choices[0].message.content == "hello"
    assert [body["model"] for body in provider.bodies] == ["first", "second"]
    assert len(steps.closed) == 2


async def test_a_stream_that_broke_before_anything_left_falls_back(provider: Provider) -> None:
    guard, steps = counted(BlocksText())
    broken = b'data: {"error":{"message":"boom","code":500}}\n\n'
    provider.answers = [chat_events("begun ", broken), chat_events("hello")]
    with replaced(of(guard)):
        stream = await router(provider, fallbacks=[{"first": ["second"]}]).acompletion(
            "first", MESSAGES, stream=True
        )
        assert await text_of(stream) == "hello"
    first = steps.closed[0][1]
    assert first is not None and first.status is OutcomeStatus.UPSTREAM_ERROR
