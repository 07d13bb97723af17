"""litellm's objects with other words in them."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import pytest
from litellm import ModelResponse
from litellm.types.utils import Delta, ModelResponseStream
from pydantic import BaseModel, Field

from luthien_guard import Guard
from luthien_guard.client.dialects import CHAT
from luthien_guard.client.revised import revised
from tests.client.calls import Upper, ask
from tests.client.provider import Provider, chat_body, chat_events

pytestmark = pytest.mark.anyio

CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{came}"}}
DELTAS: list[dict[str, Any]] = [
    {"content": "came"},
    {"reasoning_content": "came"},
    {"refusal": "came"},
    {"content": "came", "tool_calls": [CALL]},
    {
        "reasoning_content": "came",
        "thinking_blocks": [{"type": "thinking", "thinking": "came", "signature": "s"}],
    },
]


def chunk(*deltas: dict[str, Any]) -> ModelResponseStream:
    choices = [{"index": at, "delta": delta, "finish_reason": None} for at, delta in enumerate(deltas)]
    return ModelResponseStream(id="a", created=1, model="m", choices=choices, service_tier=None, said=1.5)


def other_words(model: BaseModel) -> tuple[bytes, dict[str, Any]]:
    """Its JSON, and the same with other words."""
    said = CHAT.json(model)
    return said, json.loads(said.replace(b"came", b"left"))


@pytest.mark.parametrize("deltas", [*([each] for each in DELTAS), DELTAS[:3]])
def test_words_anywhere_are_replaced_in_a_copy(deltas: list[dict[str, Any]]) -> None:
    like = chunk(*deltas)
    came = like.model_dump()
    said, data = other_words(like)
    made = revised(like, said, data)
    assert type(made) is ModelResponseStream
    assert {type(choice.delta) for choice in made.choices} == {Delta}
    assert made.model_dump_json() == like.model_dump_json().replace("came", "left")
    assert json.loads(CHAT.json(made)) == data
    assert like.model_dump() == came


def test_what_is_put_on_a_copy_is_not_on_what_came() -> None:
    like = chunk({"content": "came"})
    made = revised(like, *other_words(like))
    made.more = made.choices[0].delta.more = made.choices[0].more = "more"
    made._hidden_params["more"] = "more"
    assert "more" not in f"{like!r} {like._hidden_params}"
    assert all("more" not in each.model_fields_set for each in (like, like.choices[0], like.choices[0].delta))


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"choices": []}, {"said": "1.5"}, {"further": "words"}, {"choices": {"index": 0}}],
)
def test_another_shape_is_none(change: dict[str, Any]) -> None:
    like = chunk({"content": "came"})
    said, data = other_words(like)
    data = {name: each for name, each in {**data, **change}.items() if each is not None}
    assert revised(like, said, data) is None


class Quotes(BaseModel):
    text: str
    again: str = Field(default="", exclude=True)

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()


@pytest.mark.parametrize("like", [Quotes(text="came", again="came"), Quotes(text="came")])
def test_what_json_does_not_show_is_not_carried_on(like: Quotes) -> None:
    assert like.words == ["came"]
    assert revised(like, *other_words(like)) is None


def test_the_note_that_quotes_the_answer_is_left_out() -> None:
    like = ModelResponse(choices=[{"message": {"role": "assistant", "content": "came"}}])
    like._hidden_params = {"original_response": "came", "model_id": "m"}
    made = revised(like, *other_words(like))
    assert made._hidden_params == {"model_id": "m"}
    assert like._hidden_params["original_response"] == "came"


async def test_a_changed_answer_keeps_what_is_null(provider: Provider) -> None:
    """Callers look at it: where litellm has an attribute, there is one."""
    provider.answers = [chat_body("hello")]
    plain, answer = [await ask(Guard(policies), provider) for policies in ([], [Upper()])]
    assert answer.choices[0].message.content == "HELLO"
    said = plain.model_dump()
    said["choices"][0]["message"]["content"] = "HELLO"
    assert None in said["choices"][0]["message"].values()
    assert answer.model_dump() == said
    provider.answers = [chat_events("hello")]
    chunks = [each async for each in await ask(Guard([Upper()]), provider, stream=True)]
    assert [each.choices[0].delta.refusal for each in chunks[:2]] == [None, None]
