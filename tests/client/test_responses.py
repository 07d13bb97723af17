"""`aresponses`: litellm's typed events there and back.

litellm's own function needs packages that it does not declare, so a dialect of these tests replays its event objects.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litellm.llms.openai.responses.transformation import OpenAIResponsesAPIConfig
from litellm.responses.streaming_iterator import BaseResponsesAPIStreamingIterator
from litellm.responses.utils import ResponsesAPIRequestUtils
from litellm.types.llms.openai import ResponsesAPIResponse
from pydantic import BaseModel, ValidationError

import luthien_guard
from luthien_guard import Guard
from luthien_guard.client import PolicyViolation
from luthien_guard.client.dialects import RESPONSES
from luthien_guard.client.functions import guarded
from luthien_guard.client.managed_ids import plain_id
from tests.client.calls import BlocksRequests, BlocksText, Upper, counted, holders_of
from tests.client.provider import Provider, response_body, response_events

pytestmark = pytest.mark.anyio


class Replay(type(RESPONSES)):  # type: ignore[misc]
    """Answers with what litellm makes of a provider's events, or of a body."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts
        self.events: list[Any] = []

    async def call(self, given: dict[str, Any]) -> Any:
        if not given.get("stream"):
            return ResponsesAPIResponse(**response_body("".join(self.parts)))
        return self._replay()

    async def _replay(self) -> AsyncIterator[Any]:
        for data in response_events(*self.parts):
            kind = OpenAIResponsesAPIConfig.get_event_model_class(event_type=data["type"])
            try:
                event = kind(**data)
            except ValidationError:  # as litellm does
                event = kind.model_construct(**data)
            self.events.append(event)
            yield event


async def _ask(guard: Guard, dialect: Replay, **kwargs: Any) -> Any:
    return await guarded(guard, dialect, (), {"model": "gpt-4o", "input": "hello", **kwargs})


@pytest.mark.parametrize("stream", [False, True])
async def test_the_real_function_with_a_mock(stream: bool) -> None:
    response = await luthien_guard.aresponses("hi", "gpt-4o", mock_response="Hello there", stream=stream)
    assert isinstance(response, ResponsesAPIResponse)  # litellm's mock does not stream
    response = await Guard([Upper()]).aresponses("hi", "gpt-4o", mock_response="Hello there", stream=stream)
    assert isinstance(response, ResponsesAPIResponse)
    assert response.output[0].content[0].text == "HELLO THERE"


async def test_an_unchanged_stream_is_the_very_objects() -> None:
    dialect = Replay("one ", "two")
    for policies in ([], ["noop"], [BlocksText()]):
        dialect.events.clear()
        stream = await _ask(Guard(policies), dialect, stream=True)
        assert isinstance(stream, BaseResponsesAPIStreamingIterator)
        events = [event async for event in stream]
        assert len(events) == len(dialect.events)
        assert all(ours is theirs for ours, theirs in zip(events, dialect.events, strict=True))


async def test_a_changed_stream_is_litellms_classes() -> None:
    dialect = Replay("one ", "two")
    events = [event async for event in await _ask(Guard([Upper()]), dialect, stream=True)]
    assert [type(event) for event in events] == [type(event) for event in dialect.events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "ONE TWO"
    assert events[-1].response.output[0].content[0].text == "ONE TWO"
    assert "two" not in "".join(event.model_dump_json() for event in events)


async def test_a_whole_answer_is_changed_and_keeps_its_class() -> None:
    response = await _ask(Guard([Upper()]), Replay("one ", "two"))
    assert isinstance(response, ResponsesAPIResponse)
    assert response.output[0].content[0].text == "ONE TWO"
    assert response.usage.total_tokens == 7


@pytest.mark.parametrize("policy", [BlocksText(), BlocksRequests()])
async def test_a_block_ends_well_or_raises(policy: Any) -> None:
    dialect = Replay("The ", "SECRET")
    guard, steps = counted(policy)
    whole = await _ask(guard, dialect)
    assert isinstance(whole, ResponsesAPIResponse)
    assert "SECRET" not in whole.model_dump_json()
    assert whole.status == "completed"
    events = [event async for event in await _ask(guard, dialect, stream=True)]
    assert events[-1].type == "response.completed"
    assert "SECRET" not in "".join(event.model_dump_json() for event in events)
    for stream in (False, True):
        with pytest.raises(PolicyViolation):
            found = await _ask(guard, dialect, stream=stream, on_block="raise")
            _ = [event async for event in found]
    assert len(steps.closed) == 4


async def test_text_that_was_kept_back_is_in_no_attribute(provider: Provider) -> None:
    provider.answers = [response_events("The ", "SECRET")]
    there = {"api_base": f"{provider.url}/v1", "api_key": "k"}
    stream = await Guard([BlocksText()]).aresponses("hi", "openai/gpt-4o", stream=True, **there)
    events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    assert not holders_of("SECRET", stream)


async def test_an_event_that_litellm_does_not_know_passes() -> None:
    class New(Replay):
        async def _replay(self) -> AsyncIterator[Any]:
            async for event in super()._replay():
                yield event
                if event.type == "response.created":
                    data = {"type": "response.something.new", "sequence_number": 99}
                    kind = OpenAIResponsesAPIConfig.get_event_model_class(event_type=data["type"])
                    yield kind(**data)

    events = [event async for event in await _ask(Guard([Upper()]), New("one"), stream=True)]
    assert "response.something.new" in [str(getattr(event, "type", "")) for event in events]


async def test_litellms_long_ids_are_ids() -> None:
    kept = await Guard().aresponses("hi", "gpt-4o", mock_response="one")
    changed = await Guard([Upper()]).aresponses("hi", "gpt-4o", mock_response="one")
    assert len(changed.id) > 128
    assert changed.id == kept.id


def test_nothing_hides_in_a_long_id() -> None:
    made = ResponsesAPIRequestUtils._build_responses_api_response_id
    assert plain_id(made("openai", "None", "resp_1")) == "resp_1"
    hiding = made("a secret for you", "None", "resp_1")
    assert plain_id(hiding) == hiding
    assert plain_id("resp_1") == "resp_1"


def test_an_object_of_a_class_that_nobody_has_used_before_is_read() -> None:
    """litellm's build themselves when they are first needed."""

    class Part(BaseModel, extra="allow", defer_build=True):
        kind: str = "part"

    class Text(Part):
        text: str = "hello"

    class Item(BaseModel, extra="allow", defer_build=True):
        content: list[Part]

    item = Item.model_construct(content=[Text.model_construct()], further={"more": Text.model_construct()})
    part = {"kind": "part", "text": "hello"}
    assert json.loads(RESPONSES.json(item)) == {"content": [part], "further": {"more": part}}
