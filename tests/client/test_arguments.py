"""A call's arguments become a request and the decided request becomes arguments."""

from __future__ import annotations

import json

import pytest
from litellm.types.utils import Message
from pydantic import BaseModel

from luthien_guard.client.arguments import Arguments
from luthien_guard.client.dialects import CHAT, MESSAGES, RESPONSES
from luthien_guard.client.parameters import unvalidated
from luthien_guard.client.signature import bound
from luthien_guard.exchange import ChatRequest


def test_what_is_json_is_the_request() -> None:
    arguments = Arguments(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "top_p": None}
    )
    assert json.loads(arguments.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "n": 2,
    }


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "extra_headers",
        "aws_secret_access_key",
        "vertex_credentials",
        "my_token",
        "client",
        "metadata",
    ],
)
def test_secrets_and_connections_go_around(name: str) -> None:
    arguments = Arguments({"model": "m", name: "shibboleth"})
    assert b"shibboleth" not in arguments.body
    assert arguments.decided(b'{"model":"other"}') == {"model": "other", name: "shibboleth"}


@pytest.mark.parametrize(
    "name", ["max_tokens", "prompt_cache_key", "user", "safety_identifier", "some_new_text"]
)
def test_everything_else_is_seen(name: str) -> None:
    assert name in Arguments({"model": "m", name: "x"}).request


@pytest.mark.parametrize(
    "name",
    [
        *("deployment_id", "custom_llm_provider", "model_list", "context_window_fallback_dict", "api_type"),
        *("drop_params", "additional_drop_params", "allowed_openai_params", "litellm_credential_name"),
        *("azure_note", "vertex_note", "aws_note", "watsonx_note", "mock_note", "retry_note", "proxy_note"),
    ],
)
def test_what_chooses_a_model_or_is_sent_on_is_seen(name: str) -> None:
    assert Arguments({"model": "m", name: "x"}).request[name] == "x"


def test_metadata_is_seen_where_it_is_a_field_of_the_request() -> None:
    given = {"model": "m", "metadata": {"note": "look at me"}}
    assert (
        Arguments(given, sent=RESPONSES.sent).request == Arguments(given, sent=MESSAGES.sent).request == given
    )
    assert Arguments(given, sent=CHAT.sent).request == {"model": "m"}


def test_an_unchanged_request_passes_the_very_objects() -> None:
    messages = [{"role": "user", "content": "hi"}]
    arguments = Arguments({"model": "m", "messages": messages})
    assert arguments.decided(arguments.body)["messages"] is messages


def test_a_changed_part_is_the_only_one_that_is_replaced() -> None:
    messages, tools = [{"role": "user", "content": "hi"}], [{"type": "function"}]
    arguments = Arguments({"model": "m", "messages": messages, "tools": tools, "max_tokens": 9, "stop": "x"})
    changed = {**arguments.request, "messages": [], "max_tokens": 5, "seed": 1}
    del changed["stop"]
    decided = arguments.decided(json.dumps(changed).encode())
    assert decided == {"model": "m", "messages": [], "tools": tools, "max_tokens": 5, "seed": 1}
    assert decided["tools"] is tools


def test_litellms_message_objects_are_seen_as_json_and_passed_as_they_are() -> None:
    answer = Message(content="earlier answer", role="assistant")
    arguments = Arguments({"model": "m", "messages": [answer]})
    assert arguments.request["messages"][0]["content"] == "earlier answer"
    assert arguments.decided(arguments.body)["messages"][0] is answer


@pytest.mark.parametrize("name", ["messages", "model", "tools", "temperature", "stream"])
def test_what_stands_in_extra_body_too_is_refused(name: str) -> None:
    values = {name: [{"hidden": 1}], "extra_body": {name: [{"shown": 1}]}}
    for order in (values, reversed(values)):
        with pytest.raises(TypeError, match=f"{name} is given twice"):
            Arguments({each: values[each] for each in order})


def test_what_extra_body_alone_gives_is_the_request() -> None:
    hidden = [{"role": "user", "content": "hidden"}]
    for own in ({}, {"messages": []}, {"messages": None}, {"messages": hidden}):
        assert (
            Arguments({"model": "m", **own, "extra_body": {"messages": hidden}}).request["messages"] == hidden
        )


def test_what_goes_around_is_another_thing_than_a_field_of_that_name() -> None:
    given = {"metadata": {"trace": "mine"}, "extra_body": {"metadata": {"topic": "yours"}}}
    assert Arguments(given).request == {"metadata": {"topic": "yours"}}


def test_what_came_in_extra_body_goes_back_there() -> None:
    arguments = Arguments({"model": "m", "extra_body": {"top_k": 5}})
    assert arguments.request == {"model": "m", "top_k": 5}
    assert arguments.decided(b'{"model":"m","top_k":3}') == {"model": "m", "extra_body": {"top_k": 3}}
    assert arguments.decided(b'{"model":"m"}') == {"model": "m"}


@pytest.mark.parametrize("name", ["response_format", "text_format"])
def test_of_a_class_that_shapes_the_answer_the_schema_is_seen(name: str) -> None:
    class Form(BaseModel):
        """Look at me."""

        name: str

    arguments = Arguments({"model": "m", name: Form})
    assert "Look at me." in arguments.body.decode()
    changed = {**arguments.request, "model": "n"}
    assert arguments.decided(json.dumps(changed).encode()) == {"model": "n", name: Form}


def test_a_class_that_no_provider_gets_is_litellms_to_refuse() -> None:
    assert Arguments({"model": "m", "response_format": int}).request == {"model": "m"}


def test_text_beside_something_that_is_not_json_is_seen() -> None:
    arguments = Arguments({"model": "m", "custom": {"text": "look at me", "call": print}})
    assert arguments.request["custom"]["text"] == "look at me"


@pytest.mark.parametrize("name", ["messages", "tools", "system", "input", "extra_body", "fallbacks"])
def test_a_prompt_that_is_not_json_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} holds object, which is not JSON"):
        Arguments({"model": "m", name: [object()]})


def test_positional_arguments_are_those_of_litellm() -> None:
    assert bound("acompletion", ("m", []), {"n": 2}) == {"model": "m", "messages": [], "n": 2}
    assert bound("completion", ("m", [], 5), {}) == {"model": "m", "messages": [], "timeout": 5}
    with pytest.raises(TypeError, match="multiple values for argument 'model'"):
        bound("acompletion", ("m",), {"model": "n"})
    with pytest.raises(TypeError, match="positional arguments"):
        bound("acompletion", tuple(range(99)), {})


def test_what_litellm_does_not_map_is_allowed_and_what_it_maps_is_not_listed() -> None:
    given = unvalidated({"model": "openai/gpt-4o", "messages": [], "verbosity": "low", "max_tokens": 5})
    assert given["allowed_openai_params"] == ["verbosity"]
    assert "allowed_openai_params" not in unvalidated({"model": "openai/gpt-4o", "max_tokens": 5})


def test_what_litellm_leaves_out_in_silence_is_not_listed() -> None:
    quiet = {"max_retries": 0, "n": 1, "user": "u", "metadata": {"a": "b"}, "drop_params": False}
    for model in ("anthropic/claude-sonnet-4-5", "mistral/mistral-large", "ollama_chat/llama3"):
        assert unvalidated({"model": model, **quiet}) == {"model": model, **quiet}
    assert unvalidated({"model": "mistral/mistral-large", "n": 2})["allowed_openai_params"] == ["n"]


def test_who_wants_parameters_dropped_keeps_that() -> None:
    given = {"model": "openai/gpt-4o", "verbosity": "low", "drop_params": True}
    assert unvalidated(given) == given


@pytest.mark.parametrize(("was", "becomes"), [(1, True), (1, 1.0), (True, 1), (0.0, False)])
def test_what_python_takes_for_equal_is_another_argument(was: object, becomes: object) -> None:
    given = {"model": "m", "stream_options": {"deep": [was]}}
    arguments = Arguments(given)
    body = json.dumps({"model": "m", "stream_options": {"deep": [becomes]}}).encode()
    assert repr(arguments.decided(body)["stream_options"]) == repr({"deep": [becomes]})
    with pytest.raises(TypeError, match="given twice"):
        Arguments({**given, "extra_body": {"stream_options": {"deep": [becomes]}}})


_ELSEWHERE: list[dict[str, object]] = [
    {"fallbacks": ["gpt-4o-mini", {"model": "m"}, "PROMPT"]},
    {"fallbacks": [{"extra_body": "PROMPT"}]},
    {"model_list": [{"model_name": "m", "litellm_params": "PROMPT"}]},
    {"model_list": [{"litellm_params": {"model": "m", "extra_body": "PROMPT"}}]},
]


@pytest.mark.parametrize("given", _ELSEWHERE, ids=str)
def test_prompts_and_tools_for_another_model_are_those_of_the_request(given: dict[str, object]) -> None:
    prompt = {
        "messages": [{"role": "user", "content": "hidden"}],
        "tools": [{"type": "function", "function": {"name": "hidden"}}],
    }
    raw = json.loads(json.dumps(given).replace('"PROMPT"', json.dumps(prompt)))
    request = ChatRequest("openai.chat", Arguments({"model": "m", **raw}).request)
    (place,) = [each.path for each in request.texts() if each.text == "hidden"]
    assert place[0] in given
    assert [tool["function"]["name"] for tool in request.tools] == ["hidden"]


def test_what_litellm_adds_to_a_conversation_is_prompt() -> None:
    adds = {f"{role}_continue_message": {"role": role, "content": role} for role in ("user", "assistant")}
    request = ChatRequest("openai.chat", Arguments({"model": "m", "messages": [], **adds}).request)
    said = {(each.role, each.text) for each in request.texts() if each.path[-1] == "content"}
    assert said == {("user", "user"), ("assistant", "assistant")}
