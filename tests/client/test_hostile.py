"""Arguments and answers that try the client: keys in odd places, what is no JSON, odd chunks, the sync door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import litellm
import openai
import pytest
from litellm import ModelResponse
from litellm.exceptions import BadRequestError, Timeout
from litellm.llms.custom_llm import CustomLLM

from luthien_guard import Guard, Policy, completion, hookimpl
from luthien_guard.client.arguments import Arguments
from luthien_guard.delivery.redaction import MASK, Redactor
from luthien_guard.limits import Limits
from tests.client.calls import MESSAGES, BlocksRequests, BlocksText, Steps, Upper, ask, counted, text_of
from tests.client.provider import Provider, chat_body, chat_events

pytestmark = pytest.mark.anyio

KEY = "0123456789abcdef0123456789abcdef"  # as Azure's: it has no shape


# -- keys --------------------------------------------------------------------------------------------------------------

_KEYS: list[dict[str, Any]] = [
    {"fallbacks": [{"model": "azure/x", "api_key": KEY}]},
    {"fallbacks": [{"model": "azure/x", "api_base": f"https://u:{KEY}@host", "headers": {"x-api-key": KEY}}]},
    {"fallbacks": [{"model": "azure/x", "extra_body": {"deep": [{"clientSecret": KEY}]}}]},
    {"langfuse_secret_key": KEY},
    {"langsmith_api_key": KEY},
    {"arize_api_key": KEY},
    {"arize_space_key": KEY},
    {"signoz_ingestion_key": KEY},
    {"oci_key": KEY},
    {"apikey": KEY},
    {"token": KEY},
    {"password": KEY},
    {"credentials": {"private_key": KEY}},
    {"anthropic_keycloak_client_secret_ref": KEY},
    {"extra_body": {"api_key": KEY}},
    {"extra_body": {"x-goog-api-key": KEY, "top_k": 3}},
    {"extra_body": {"provider": {"Authorization": f"Bearer {KEY}"}}},
    {"extra_body": {"extra_headers": {"Authorization": f"Bearer {KEY}"}}},
    {"provider_specific_header": {"custom_llm_provider": "x", "extra_headers": {"authorization": KEY}}},
    {"tools": [{"type": "mcp", "server_url": "https://x", "headers": {"Authorization": f"Bearer {KEY}"}}]},
    {"tools": [{"type": "mcp", "server_url": "https://x", "authorization": KEY}]},
    {"mcp_servers": [{"type": "url", "url": "https://x", "authorization_token": KEY}]},
    {"extra_headers": {"X-Tenant": KEY}},
    {"headers": {"x-tenant": KEY, "content-type": "application/json"}},
    {"extra_body": {"provider": {"headers": {"x-tenant": KEY}}}},
    {"provider_specific_header": {"custom_llm_provider": "openai", "extra_headers": {"x-tenant": KEY}}},
    {"tools": [{"type": "mcp", "server_url": "https://x", "headers": {"x-tenant": KEY}}]},
]


@pytest.mark.parametrize("given", _KEYS, ids=lambda given: next(iter(given)))
def test_no_policy_sees_a_key_and_litellm_gets_it(given: dict[str, Any]) -> None:
    arguments = Arguments({"model": "m", "messages": MESSAGES, **given})
    assert KEY.encode() not in arguments.body
    assert arguments.decided(arguments.body) == {"model": "m", "messages": MESSAGES, **given}
    changed = arguments.body.replace(b'"m"', b'"n"')
    assert arguments.decided(changed) == {"model": "n", "messages": MESSAGES, **given}


@pytest.mark.parametrize(
    "given",
    [each for each in _KEYS if "api_base" not in str(each)],  # an address is no key: it only goes around
    ids=lambda given: next(iter(given)),
)
async def test_no_record_holds_a_key_even_where_it_is_said_again(given: dict[str, Any]) -> None:
    arguments = Arguments({"model": "m", "messages": MESSAGES, **given})
    assert KEY in arguments.secrets
    seen: list[str] = []
    guard = Guard([Sees(seen.append)])
    messages = [{"role": "user", "content": "hello"}]
    await guard.acompletion("gpt-4o", messages, mock_response=f"the key is {KEY}.", **given)
    assert KEY not in "".join(seen)
    assert KEY not in str(guard.records_of(guard.recent_calls[-1]))


class Sees(Policy):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    @hookimpl
    def on_request_started(self, request: Any, ctx: Any) -> None:
        self.tell(json.dumps(dict(request.raw)))


def test_what_everybody_says_in_headers_is_no_key() -> None:
    given = {
        "extra_headers": {"content-type": "application/json", "anthropic-beta": "a-feature"},
        "provider_specific_header": {"custom_llm_provider": "anthropic", "extra_headers": {}},
    }
    assert Arguments({"model": "m", **given}).secrets == ()


def test_a_key_with_characters_that_json_escapes_is_hidden_in_both_spellings() -> None:
    key = 'line "one"\nline two'
    secrets = Arguments({"model": "m", "messages": [], "vertex_credentials": key}).secrets
    assert json.loads(Redactor()(json.dumps({"said": key}), secrets)) == {"said": MASK}
    assert Redactor()(key, secrets) == MASK


def test_keys_inside_of_what_goes_around_are_known_too() -> None:
    arguments = Arguments(
        {"metadata": {"trace": {"langfuse_secret_key": KEY}}, "api_key": "mine-and-no-other"}
    )
    assert set(arguments.secrets) == {KEY, "mine-and-no-other"}
    assert arguments.key == "mine-and-no-other"


@pytest.mark.parametrize(
    "given",
    [
        {"max_tokens": 5, "max_completion_tokens": 6},
        {
            "extra_body": {
                "max_new_tokens": 7,
                "stop_token": "<end>",
                "eos_token": "</s>",
                "ignore_eos_token": True,
            }
        },
        {"bos_token": "look at me"},
        {"prompt_cache_key": "a-session", "safety_identifier": "a-user"},
        {"logit_bias": {"50256": -100}},
        {"stop": ["token", "secret"]},
        {
            "response_format": {
                "json_schema": {"schema": {"properties": {"password": {"description": "see"}}}}
            }
        },
        {
            "extra_body": {
                "guided_json": {"properties": {"api_key": {"const": "look"}, "headers": {"const": "me"}}}
            }
        },
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"token": "look at me"}}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "api_key": "look at me"}]}]},
        {"fallbacks": [{"model": "x", "messages": [{"role": "user", "content": "a", "password": "look"}]}]},
        {"system": [{"type": "text", "text": "x", "secret": "look at me"}]},
        {"litellm_system_prompt": "look at me"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_may_reach_the_model_is_seen_whatever_it_is_called(given: dict[str, Any]) -> None:
    request = Arguments({"model": "m", **given}).request
    assert request == {"model": "m", **given.get("extra_body", given)}
    assert Arguments({"model": "m", **given}).secrets == ()


async def test_a_system_prompt_of_litellms_own_is_searched() -> None:
    guard = Guard([{"use": "default-limits", "config": {"forbidden_words": ["sesame"]}}])
    answer = await guard.acompletion(
        "gpt-4o", MESSAGES, mock_response="x", litellm_system_prompt="say sesame"
    )
    assert answer.choices[0].message.content.startswith("⛔")


def test_a_policy_that_moves_fallbacks_moves_their_keys() -> None:
    first, second = {"model": "a", "api_key": KEY}, {"model": "b", "api_key": KEY[::-1]}
    arguments = Arguments({"model": "m", "fallbacks": [first, second]})
    changed = {**arguments.request, "fallbacks": arguments.request["fallbacks"][::-1]}
    assert arguments.decided(json.dumps(changed).encode())["fallbacks"] == [second, first]


def test_no_text_is_turned_into_a_key() -> None:
    given = {"model": "m", "messages": [], "fallbacks": [{"model": "a", "api_key": KEY}]}
    arguments = Arguments(given)
    stand_in = arguments.request["fallbacks"][0]["api_key"]
    changed = {
        **arguments.request,
        "messages": [{"role": "user", "content": stand_in, "api_key": stand_in}],
        "fallbacks": [{"model": stand_in, "user": stand_in}],
    }
    assert KEY not in json.dumps(arguments.decided(json.dumps(changed).encode()))


# -- what is no JSON ---------------------------------------------------------------------------------------------------


def test_keys_that_are_numbers_are_spelled_as_json_does() -> None:
    bias = {50256: -100, 1.5: 1, True: 2, None: 3}
    arguments = Arguments({"model": "m", "logit_bias": bias})
    assert arguments.request["logit_bias"] == json.loads(json.dumps(bias))
    assert arguments.decided(b'{"model":"n","logit_bias":{}}')["logit_bias"] == {}
    assert arguments.decided(arguments.body)["logit_bias"] is bias


def test_two_keys_of_one_spelling_are_refused() -> None:
    with pytest.raises(TypeError, match="tools holds two keys of one spelling"):
        Arguments({"model": "m", "tools": [{1: "shown", "1": "hidden"}]})


async def test_numbers_as_keys_reach_the_provider(provider: Provider) -> None:
    provider.answers = [chat_body("fine")]
    await ask(Guard(["noop"]), provider, logit_bias={50256: -100})
    assert provider.bodies[0]["logit_bias"] == {"50256": -100}


@pytest.mark.parametrize(
    "given",
    [
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"temperature": float("nan")},
        {"user": float("inf")},
    ],
    ids=lambda given: next(iter(given)),
)
async def test_what_no_policy_can_read_is_litellms_error_and_on_record(
    provider: Provider, given: dict[str, Any]
) -> None:
    guard, steps = counted("noop")
    with pytest.raises(BadRequestError):
        await ask(guard, provider, **given)
    assert provider.bodies == []
    types = [record.type.value for record in guard.records_of(guard.recent_calls[-1])]
    assert types == ["request.received", "request.rejected", "exchange.closed"]
    assert len(steps.closed) == 1


def test_arguments_without_an_end_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="tools is nested too deep"):
        Arguments({"model": "m", "tools": endless})
    Arguments({"model": "m", "metadata": {"endless": endless}})


# -- odd answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policies", [[Upper()], [BlocksText()]])
async def test_a_lone_surrogate_is_blocked_streamed_or_not(policies: list[Any]) -> None:
    guard = Guard(policies)
    whole = await guard.acompletion("gpt-4o", MESSAGES, mock_response="abc \ud800 def")
    said = whole.choices[0].message.content
    stream = await guard.acompletion("gpt-4o", MESSAGES, mock_response="abc \ud800 def", stream=True)
    assert (await text_of(stream)).endswith(said)
    for call_id in guard.recent_calls:
        assert guard.records_of(call_id)[-1].details["outcome"] == "blocked"


@pytest.mark.parametrize("policy", [BlocksText(), BlocksRequests()])
async def test_the_chunks_of_a_blocked_stream_have_the_choices_that_litellm_s_have(policy: Policy) -> None:
    given: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "mock_response": "SECRET",
    }
    theirs: Any = await litellm.acompletion(model="gpt-4o", messages=MESSAGES, **given)
    plain = [chunk async for chunk in theirs]
    blocked = [chunk async for chunk in await Guard([policy]).acompletion("gpt-4o", MESSAGES, **given)]
    assert blocked[-1].usage is not None
    assert [each.model_dump() for each in blocked[-1].choices] == [
        each.model_dump() for each in plain[-1].choices
    ]
    assert all(len(chunk.choices) == 1 for chunk in blocked[:-1])


async def test_an_answer_that_is_a_dict(custom: Any) -> None:
    custom.asynchronous = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "abc"}}]}
    answer = await Guard([Upper()]).acompletion("homemade/m", MESSAGES)
    assert answer.choices[0].message.content == "ABC"
    untouched = await Guard(["noop"]).acompletion("homemade/m", MESSAGES)
    assert untouched["choices"][0]["message"]["content"] == "abc"


# -- the sync door -----------------------------------------------------------------------------------------------------


class Custom(CustomLLM):
    """A provider of the tests' own. `inside` is called where the sync function is."""

    def __init__(self) -> None:
        super().__init__()
        self.asynchronous: Any = None
        self.inside: Any = None

    def completion(self, *_: Any, **__: Any) -> Any:
        text = "sync answer" if self.inside is None else f"outer {self.inside()}"
        return ModelResponse(
            choices=[{"index": 0, "message": {"role": "assistant", "content": text}}], model="m"
        )

    async def acompletion(self, *_: Any, **__: Any) -> Any:
        return self.asynchronous

    def streaming(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield _piece("sync ")
        yield _piece("stream" if self.inside is None else self.inside())
        yield _piece("", end=True)


def _piece(text: str, *, end: bool = False) -> dict[str, Any]:
    reason = "stop" if end else ""
    return {
        "text": text,
        "is_finished": end,
        "finish_reason": reason,
        "usage": None,
        "index": 0,
        "tool_use": None,
    }


@pytest.fixture
def custom() -> Iterator[Custom]:
    made, before = Custom(), litellm.custom_provider_map
    litellm.custom_provider_map = [{"provider": "homemade", "custom_handler": made}]
    yield made
    litellm.custom_provider_map = before


def _text(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_provider_that_is_only_sync(custom: Custom) -> None:
    guard = Guard([Upper()])
    assert guard.completion("homemade/m", MESSAGES).choices[0].message.content == "SYNC ANSWER"
    assert _text(guard.completion("homemade/m", MESSAGES, stream=True)) == "SYNC STREAM"


def test_a_sync_client_is_used(provider: Provider) -> None:
    provider.answers = [chat_body("hi"), chat_events("hello ", "there")]
    with openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1") as given:
        guard = Guard([Upper()])
        assert guard.completion("openai/gpt-4o", MESSAGES, client=given).choices[0].message.content == "HI"
        assert _text(guard.completion("openai/gpt-4o", MESSAGES, client=given, stream=True)) == "HELLO THERE"


def test_a_guarded_call_inside_of_a_guarded_call(custom: Custom) -> None:
    def inside() -> str:
        answer = completion("gpt-4o", MESSAGES, mock_response="inner")
        return str(answer.choices[0].message.content)

    custom.inside = inside
    assert completion("homemade/m", MESSAGES).choices[0].message.content == "outer inner"
    assert _text(completion("homemade/m", MESSAGES, stream=True)) == "sync inner"


def test_a_policy_that_calls_it_is_told_what_to_do() -> None:
    told: list[str] = []

    class Asks(Policy):
        @hookimpl
        def on_request_started(self, request: Any, ctx: Any) -> None:
            try:
                completion("gpt-4o", MESSAGES, mock_response="x")
            except RuntimeError as error:
                told.append(str(error))

    Guard([Asks()]).completion("gpt-4o", MESSAGES, mock_response="x")
    assert "await `acompletion`" in told[0]


def test_a_sync_call_that_takes_too_long_ends_without_waiting_for_litellm(custom: Custom) -> None:
    go = threading.Event()
    custom.inside = lambda: str(go.wait(30))
    guard = Guard(["noop"], limits=Limits(total_timeout=0.2))
    with pytest.raises(Timeout):
        guard.completion("homemade/m", MESSAGES)
    go.set()


def test_no_thread_is_left_by_sync_calls(provider: Provider) -> None:
    provider.answers = [chat_body("hi"), chat_events("one ", "two"), chat_events("one ", Provider.PAUSE)]
    guard = Guard([Upper()])
    given: dict[str, Any] = {"api_base": f"{provider.url}/v1", "api_key": "k"}
    guard.completion("openai/gpt-4o", MESSAGES, **given)
    list(guard.completion("openai/gpt-4o", MESSAGES, stream=True, **given))
    early = guard.completion("openai/gpt-4o", MESSAGES, stream=True, **given)
    next(early)
    early.close()
    for thread in threading.enumerate():
        if thread.name == "luthien_guard.litellm":
            thread.join(10)
            assert not thread.is_alive()


async def test_the_steps_of_a_sync_stream_are_those_of_an_async_one() -> None:
    guard, steps = counted(Upper())
    stream = await anyio.to_thread.run_sync(
        lambda: guard.completion("gpt-4o", MESSAGES, mock_response="hello", stream=True)
    )
    assert await anyio.to_thread.run_sync(_text, stream) == "HELLO"
    assert isinstance(steps, Steps)
    assert len(steps.closed) == 1


# -- the guard of the module -------------------------------------------------------------------------------------------


def test_many_threads_make_one_guard(tmp_path: Path) -> None:
    """In a process of its own: the guard is made once in each."""
    config = tmp_path / "guard.yaml"
    config.write_text("policies: [noop]")
    given = {**os.environ, "POLICY_CONFIG": str(config)}
    done = subprocess.run(
        [sys.executable, "-c", _RACE],
        env=given,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


_RACE = """
import threading
from luthien_guard.client.functions import default_guard

together, found = threading.Barrier(8), []

def one():
    together.wait()
    found.append(default_guard())

threads = [threading.Thread(target=one) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len({id(guard) for guard in found}))
"""


@pytest.mark.parametrize(
    ("variables", "policies", "warned"),
    [
        ({}, (), True),
        ({"LUTHIEN_POLICIES": '["noop"]'}, ("noop",), False),
        ({"LUTHIEN_STORE": "memory://"}, (), True),
    ],
)
def test_without_a_file_the_variables_say_which_policies(
    variables: dict[str, str], policies: tuple[str, ...], warned: bool
) -> None:
    code = "from luthien_guard.client.functions import default_guard; print(default_guard().policies)"
    given = {name: value for name, value in os.environ.items() if name != "POLICY_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**given, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{policies}\n"
    assert ("calls are under no policy: set POLICY_CONFIG" in done.stderr) is warned
