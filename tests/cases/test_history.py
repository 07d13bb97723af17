"""A policy that must see the whole conversation gets it, or nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from luthien_guard import ChatRequest, ConfigError, Guard, GuardMiddleware, Policy, hookimpl
from luthien_guard.testing import Script, run
from luthien_guard.testing.provider import FakeProvider, serving

CODE = "thread_unsupported_request"
USER = {"role": "user", "content": "Hello"}


class Reads(Policy):
    """Keeps what it was shown of each request."""

    needs_history = True

    def __init__(self, shown: tuple[list[ChatRequest]]) -> None:
        self.shown = shown

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> None:
        self.shown[0].append(request)


@contextmanager
def guarded(*scripts: Script, **options: Any) -> Iterator[tuple[FakeProvider, list[ChatRequest], str]]:
    provider, shown = FakeProvider(*scripts), list[ChatRequest]()
    guard = Guard([{"use": Reads((shown,)), **options}])
    with serving(GuardMiddleware(provider, guard=guard)) as url:
        yield provider, shown, url


@pytest.mark.parametrize(
    ("wire_format", "raw", "references"),
    [
        ("openai.chat", {"messages": [USER], "thread": {"type": "continue"}}, ()),
        ("anthropic.messages", {"messages": [USER]}, ()),
        ("anthropic.messages", {"thread": None}, ()),
        ("anthropic.messages", {"thread": {"type": "create"}}, ()),
        ("anthropic.messages", {"thread": {"type": "continue", "previous_message_id": "msg_1"}}, ("thread",)),
        ("anthropic.messages", {"thread": {"type": "create", "previous_message_id": "msg_1"}}, ("thread",)),
        ("anthropic.messages", {"thread": "msg_1"}, ("thread",)),
        ("openai.responses", {"input": "Hello", "previous_response_id": None}, ()),
        ("openai.responses", {"input": [USER, {"type": "message", **USER}]}, ()),
        ("openai.responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]}, ()),
        ("openai.responses", {"input": "Hello", "previous_response_id": ""}, ("previous_response_id",)),
        ("openai.responses", {"conversation": {"id": "conv_1"}}, ("conversation",)),
        ("openai.responses", {"prompt": {"id": "pmpt_1"}}, ("prompt",)),
        ("openai.responses", {"input": [USER, {"type": "item_reference", "id": "msg_1"}]}, ("input",)),
        ("openai.responses", {"input": [{"id": "msg_1"}]}, ("input",)),
        ("openai.responses", {"input": [{"type": None, "id": "msg_1"}]}, ("input",)),
        ("openai.responses", {"input": ["x"], "conversation": "c", "prompt": {}}, ("conversation", "prompt")),
    ],
)
def test_what_stands_for_what_the_provider_keeps(
    wire_format: str, raw: dict[str, Any], references: tuple[str, ...]
) -> None:
    assert ChatRequest(wire_format, raw).references == references


def test_the_tool_runner_of_anthropic_sends_the_whole_conversation() -> None:
    @anthropic.beta_tool
    def ls(folder: str) -> str:
        """List a folder."""
        return f"{folder}/a"

    script = Script().tool_call("ls", {"folder": "/srv"})
    with guarded(script, Script().text("One file.")) as (provider, shown, url):
        client = anthropic.Anthropic(api_key="any", base_url=url, max_retries=0)
        runner = client.beta.messages.tool_runner(
            model="scripted-model",
            max_tokens=100,
            tools=[ls],
            messages=[{"role": "user", "content": "What is in /srv?"}],
        )
        answer = runner.until_done()
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "One file."
    assert provider.complaints == []
    assert [(request.raw.get("thread"), len(request.messages)) for request in shown] == [
        ({"type": "create"}, 1),
        (None, 3),
    ]


def test_others_are_told_what_to_send() -> None:
    with guarded(Script().text("Hello.")) as (provider, shown, url):
        client = openai.OpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0)
        first = client.responses.create(model="scripted-model", input="Hello")
        with pytest.raises(openai.BadRequestError, match="`previous_response_id`") as raised:
            client.responses.create(model="scripted-model", input="Again", previous_response_id=first.id)
    assert raised.value.code == CODE
    assert len(provider.requests) == len(shown) == 1


async def test_it_is_on_record_on_whose_behalf() -> None:
    reads = Reads(([],))
    asked = {"thread": {"type": "continue", "previous_message_id": "msg_1"}}
    runs = await run(reads, Script().text("Hello."), request=asked, wire_formats=["anthropic.messages"])
    runs.assert_outcome("blocked")
    for each in runs:
        assert each.status == 400
        assert json.loads(each.body)["error"]["details"] == {"error_code": CODE, "unsupported": ["thread"]}
        assert each.outcome.policy == "reads"
        assert each.upstream.requests == []
    assert reads.shown == ([],)


@pytest.mark.parametrize("options", [{"mode": "observe"}, {}])
async def test_who_only_observes_takes_what_there_is(options: dict[str, Any]) -> None:
    reads: Any = Reads(([],))
    policies = reads if options else {"use": reads, "mode": "shadow"}
    runs = await run(
        policies,
        Script().text("Hello."),
        request={"conversation": "conv_1"},
        wire_formats=["openai.responses"],
        **options,
    )
    runs.assert_unchanged()
    assert len(reads.shown[0]) == len(runs)


def test_it_is_a_matter_of_yes_or_no() -> None:
    class Maybe(Policy):
        needs_history: Any = "yes"

    with pytest.raises(ConfigError, match="needs_history"):
        Guard([Maybe()])
