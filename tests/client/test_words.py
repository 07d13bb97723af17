"""A chunk whose text is replaced as that of one before: found without a parser, and the same as with one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from litellm.types.utils import ModelResponseStream
from pydantic import BaseModel, Field

from luthien_guard.client.dialects import CHAT
from luthien_guard.client.revised import revised
from luthien_guard.client.words import Words


def chunk(text: str, **more: Any) -> ModelResponseStream:
    choices: list[Any] = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return ModelResponseStream(id="a", created=1, model="m", choices=choices, **more)


def frame(json_text: bytes) -> bytes:
    return b"data: %b\n\n" % json_text


def with_text(came: bytes, text: str, *, ascii: bool = False) -> bytes:
    data = json.loads(came[6:])
    data["choices"][0]["delta"]["content"] = text
    return frame(json.dumps(data, separators=(",", ":"), ensure_ascii=ascii).encode())


def learned(like: Any, *texts: str) -> Words:
    words, came = Words(), frame(CHAT.json(like))
    for text in texts or ("other",):
        words.learn(came, json.loads(with_text(came, text)[6:]))
    return words


TEXTS = ["", "word", 'qu"ote', "back\\slash \\", "é ☃ 𝄞", "line\nend\u2028", "content", '"},"x":{"content":"']


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("was", TEXTS)
def test_the_text_of_a_chunk_like_the_one_before(was: str, text: str, ascii: bool) -> None:
    like = chunk(was, obfuscation="xyz", said="after it")
    came = frame(CHAT.json(like))
    left = with_text(came, text, ascii=ascii)
    made = learned(chunk("first", obfuscation="a")).again(like, came, left)
    wanted = revised(like, came[6:-2], json.loads(left[6:]))
    assert (made, made._hidden_params) == (wanted, wanted._hidden_params)
    assert made.choices[0].delta.content == text
    assert like.choices[0].delta.content == was


def test_each_chunk_keeps_what_stands_behind_its_text() -> None:
    words = learned(chunk("first"))
    for more in [{}, {}, {"said": "a"}, {"said": "b"}, {"said": ["b"], "again": 1}, {}]:
        like = chunk("came", **more)
        came = frame(CHAT.json(like))
        left = with_text(came, "left")
        made = words.again(like, came, left)
        assert frame(CHAT.json(made)) == left
        assert made == revised(like, came[6:-2], json.loads(left[6:]))


@pytest.mark.parametrize(
    "left",
    [
        frame(b'{"id":"b","choices":[{"index":0,"delta":{"content":"x"}}]}'),
        b"event: x\n" + with_text(frame(CHAT.json(chunk("came"))), "left"),
        with_text(frame(CHAT.json(chunk("came"))), "left") * 2,
        with_text(frame(CHAT.json(chunk("came", further="word"))), "left"),
        frame(CHAT.json(chunk("came"))).replace(b'came"', b"left"),
        frame(CHAT.json(chunk("came"))).replace(b'"came"', b"1"),
        b"",
    ],
)
def test_what_differs_in_more_is_left_to_the_parser(left: bytes) -> None:
    like = chunk("came")
    assert learned(like).again(like, frame(CHAT.json(like)), left) is None


def test_nothing_is_known_before_something_was_learned() -> None:
    like = chunk("came")
    came = frame(CHAT.json(like))
    words = Words()
    assert words.again(like, came, with_text(came, "left")) is None
    words.learn(b"", {"choices": []})  # nothing came
    words.learn(came, json.loads(came[6:]))  # nothing differs
    words.learn(came, {"id": "b", **json.loads(with_text(came, "left")[6:])} | {"id": "b"})  # two strings do
    words.learn(came, {})
    assert words.again(like, came, with_text(came, "left")) is None


class Quotes(BaseModel):
    text: str
    again: str | None = Field(default=None, exclude=True)


def test_what_json_does_not_show_is_not_carried_on() -> None:
    """Also where the chunk before had nothing to hide."""
    words, before, like = Words(), Quotes(text="a"), Quotes(text="came", again="came")
    words.learn(frame(CHAT.json(before)), {"text": "b"})
    came, left = frame(CHAT.json(like)), frame(b'{"text":"left"}')
    assert words.again(before, frame(CHAT.json(before)), left) == Quotes(text="left")
    assert words.again(like, came, left) is None


def test_a_lone_surrogate_is_left_to_the_parser() -> None:
    like = chunk("came", further="\ud800")
    came = frame(CHAT.json(like))
    assert learned(chunk("came")).again(like, came, came.replace(b"came", b"left")) is None
