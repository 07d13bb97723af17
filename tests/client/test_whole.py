"""Answers that are not streamed."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import anyio
import litellm
import pytest

import luthien_guard
from luthien_guard import Guard, Policy, hookimpl
from luthien_guard.client import PolicyViolation
from luthien_guard.exchange import OutcomeStatus
from tests.client.calls import (
    MESSAGES,
    BlocksCalls,
    BlocksRequests,
    BlocksText,
    Retries,
    Upper,
    ask,
    counted,
)
from tests.client.provider import Provider, chat_body

pytestmark = pytest.mark.anyio


async def test_the_first_example_of_the_readme() -> None:
    response = await luthien_guard.acompletion("gpt-4o", MESSAGES, mock_response="Hello there")
    assert isinstance(response, litellm.ModelResponse)
    assert response.choices[0].message.content == "Hello there"


async def test_an_answer_that_no_policy_changes_has_everything_litellm_gives(provider: Provider) -> None:
    provider.answers = [chat_body("one two")]
    for guard in (Guard(), Guard(["noop"]), Guard([BlocksText()])):
        response = await ask(guard, provider)
        assert type(response) is litellm.ModelResponse
        assert response.choices[0].message.content == "one two"
        assert response.usage.total_tokens == 7
        assert response._hidden_params["response_cost"] > 0


async def test_a_changed_answer_keeps_what_litellm_noted(provider: Provider) -> None:
    provider.answers = [chat_body("one two")]
    response = await ask(Guard([Upper()]), provider)
    assert type(response) is litellm.ModelResponse
    assert response.choices[0].message.content == "ONE TWO"
    assert response.choices[0].finish_reason == "stop"
    assert (response.id, response.system_fingerprint, response.usage.total_tokens) == (
        "chatcmpl-1",
        "fp_1",
        7,
    )
    assert response._hidden_params["response_cost"] > 0
    assert response._response_ms > 0
    assert litellm.completion_cost(response) > 0


async def test_every_choice_is_guarded(provider: Provider) -> None:
    provider.answers = [chat_body("one", "two", "three")]
    response = await ask(Guard([Upper()]), provider, n=3)
    assert [choice.message.content for choice in response.choices] == ["ONE", "TWO", "THREE"]


async def test_tool_calls_come_through_and_can_be_blocked(provider: Provider) -> None:
    provider.answers = [chat_body("Sure.", calls=[("bash", '{"cmd": "ls"}')])]
    allowed = await ask(Guard([Upper()]), provider)
    assert allowed.choices[0].message.tool_calls[0].function.arguments == '{"cmd": "ls"}'
    assert allowed.choices[0].finish_reason == "tool_calls"
    blocked = await ask(Guard([BlocksCalls()]), provider)
    assert not blocked.choices[0].message.tool_calls
    assert blocked.choices[0].finish_reason == "stop"
    assert "cmd" not in blocked.model_dump_json()


@pytest.mark.parametrize(
    ("policy", "text"), [(BlocksText(), "That is secret."), (BlocksRequests(), "No questions, please.")]
)
async def test_a_block_is_a_complete_answer(provider: Provider, policy: Policy, text: str) -> None:
    provider.answers = [chat_body("The SECRET is swordfish")]
    guard, steps = counted(policy)
    response = await ask(guard, provider)
    assert isinstance(response, litellm.ModelResponse)
    assert response.choices[0].message.content == text
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.total_tokens >= 0
    assert "swordfish" not in response.model_dump_json()
    assert len(steps.closed) == 1


@pytest.mark.parametrize("policy", [BlocksText(), BlocksRequests()])
@pytest.mark.parametrize("how", ["call", "guard", "error"])
async def test_a_block_can_be_an_exception(provider: Provider, policy: Policy, how: str) -> None:
    provider.answers = [chat_body("The SECRET is swordfish")]
    guard = Guard([policy], on_block="refuse" if how == "call" else "raise" if how == "guard" else "error")
    given = {"on_block": "raise"} if how == "call" else {}
    with pytest.raises(litellm.exceptions.ContentPolicyViolationError) as caught:
        await ask(guard, provider, **given)
    error = caught.value
    assert isinstance(error, PolicyViolation)
    assert error.policy == policy.name
    assert error.reason in ("it says SECRET", "no questions")
    assert guard.records_of(error.call_id)
    assert "swordfish" not in str(error)


async def test_the_exception_reaches_another_process() -> None:
    with pytest.raises(PolicyViolation) as raised:
        await Guard([BlocksRequests()], on_block="raise").acompletion(model="gpt-4o", messages=MESSAGES)
    error = raised.value
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is PolicyViolation
        assert (str(again), vars(again).keys()) == (str(error), vars(error).keys())
        assert (again.policy, again.reason, again.call_id) == (error.policy, error.reason, error.call_id)


async def test_a_blocked_request_is_never_sent(provider: Provider) -> None:
    provider.answers = [chat_body("x")]
    await ask(Guard([BlocksRequests()]), provider)
    assert provider.bodies == []


async def test_a_changed_request_is_what_is_sent(provider: Provider) -> None:
    class Rewrites(Policy):
        @hookimpl
        def on_request_started(self, request: Any, ctx: Any) -> Any:
            messages = [{"role": "system", "content": "Be kind."}, *request.messages]
            return request.replace(messages=messages, max_tokens=7, model="openai/gpt-4o-mini")

    provider.answers = [chat_body("x")]
    await ask(Guard([Rewrites()]), provider, max_tokens=100, temperature=0.5)
    body = provider.bodies[0]
    assert body["model"] == "gpt-4o-mini"
    assert [each["role"] for each in body["messages"]] == ["system", "user"]
    assert (body["max_tokens"], body["temperature"]) == (7, 0.5)


async def test_parameters_are_not_policed(provider: Provider) -> None:
    provider.answers = [chat_body("x")]
    await ask(Guard(), provider, verbosity="low", my_new_parameter={"a": 1}, extra_body={"top_k": 3})
    body = provider.bodies[0]
    assert (body["verbosity"], body["my_new_parameter"], body["top_k"]) == ("low", {"a": 1}, 3)


async def test_keys_are_not_in_the_record(provider: Provider) -> None:
    provider.answers = [chat_body("x")]
    guard = Guard()
    await ask(guard, provider, extra_headers={"x-secret": "secret-header"})
    facts = json.dumps([str(record) for record in guard.records_of(guard.recent_calls[0])])
    assert "secret-key" not in facts
    assert "secret-header" not in facts


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (429, "RateLimitError"),
        (503, "ServiceUnavailableError"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_litellms_exceptions_pass(provider: Provider, status: int, kind: str, stream: bool) -> None:
    provider.answers = [(status, {"error": {"message": "no", "type": "t", "code": "c"}})]
    guard, steps = counted(Upper())
    with pytest.raises(getattr(litellm.exceptions, kind)) as caught:
        await ask(guard, provider, stream=stream)
    assert not isinstance(caught.value, PolicyViolation)
    assert [outcome.status for _, outcome in steps.closed if outcome] == [OutcomeStatus.UPSTREAM_ERROR]


async def test_a_request_that_no_parser_agrees_on_is_a_bad_request(provider: Provider) -> None:
    provider.answers = [chat_body("x")]
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    guard, steps = counted(Upper())
    with pytest.raises(litellm.BadRequestError):
        await ask(guard, provider, some_parameter=deep)
    assert provider.bodies == []
    assert len(steps.closed) == 1


async def test_a_retry_asks_again_with_another_model(provider: Provider) -> None:
    provider.answers = [chat_body("again"), chat_body("good")]
    guard, steps = counted(Retries("openai/gpt-4o-mini"))
    response = await ask(guard, provider)
    assert response.choices[0].message.content == "good"
    assert [body["model"] for body in provider.bodies] == ["gpt-4o", "gpt-4o-mini"]
    assert len(steps.closed) == 1


async def test_retries_end(provider: Provider) -> None:
    provider.answers = [chat_body("again")]
    response = await ask(Guard([Retries()]), provider)
    assert "Blocked" in response.choices[0].message.content
    assert len(provider.bodies) == 3


async def test_calls_beside_each_other_do_not_mix(provider: Provider) -> None:
    guard, steps = counted(Upper())
    found: dict[int, str] = {}

    async def one(at: int) -> None:
        response = await guard.acompletion("gpt-4o", MESSAGES, mock_response=f"answer {at}")
        found[at] = response.choices[0].message.content

    async with anyio.create_task_group() as tasks:
        for at in range(20):
            tasks.start_soon(one, at)
    assert found == {at: f"ANSWER {at}" for at in range(20)}
    assert len({call_id for call_id, _ in steps.closed}) == 20


async def test_a_wrong_on_block_is_told() -> None:
    with pytest.raises(luthien_guard.ConfigError, match="on_block is 'explode'"):
        await Guard().acompletion("gpt-4o", MESSAGES, mock_response="x", on_block="explode")


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_told_that_litellm_needs_asyncio() -> None:
    with pytest.raises(RuntimeError, match="litellm runs on asyncio only"):
        await luthien_guard.acompletion("gpt-4o", MESSAGES, mock_response="x")
