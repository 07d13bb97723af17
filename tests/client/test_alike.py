"""A chunk that is like one before: what is said of it is true of its JSON, and a copy of it is what its JSON would make."""

from __future__ import annotations

import json
from typing import Any

import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litellm.types.utils import ModelResponseStream

from luthien_guard import Block, ContentChunk, Guard, Policy, hookimpl
from luthien_guard.client.alike import Alike
from luthien_guard.client.arguments import Arguments
from luthien_guard.client.chunks import Chunks
from luthien_guard.client.dialects import CHAT
from luthien_guard.client.exchange import ClientExchange
from luthien_guard.client.revised import revised
from luthien_guard.control_plane.service import Release
from luthien_guard.events import Chunk
from luthien_guard.records import EventType
from luthien_guard.testing.remote import JsonPlane
from luthien_guard.wire.alike import pattern_of
from tests.client.calls import ask
from tests.client.provider import Provider

pytestmark = pytest.mark.anyio

PATH = ("choices", 0, "delta", "content")


#: Where to put what: into the chunk, its choice, its delta.
PLACES = st.tuples(
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from(
        [
            "id",
            "created",
            "model",
            "obfuscation",
            "service_tier",
            "index",
            "finish_reason",
            "logprobs",
            "refusal",
        ]
    ),
    st.sampled_from([None, "", "a", "b", "two words", "é", 0, 1, [], ["secret"], {"text": "secret"}]),
)
TEXTS = st.sampled_from(
    [
        " word",
        "é ☃ 𝄞",
        'qu"ote \\',
        "",
        None,
        "line\nend",
        "a\u2028b",
        "\xa0",
        "\x7f",
        "\ud800",
        "w" * 20_000,
        7,
        ["a"],
    ]
)


def chunk(text: Any, *changes: tuple[int, str, Any], **more: Any) -> Any:
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
    made = ModelResponseStream(id="a", created=1, model="m", choices=[choice], **more)
    parts = made, made.choices[0], made.choices[0].delta
    for level, name, value in ((2, "content", text), *changes):
        setattr(parts[level], name, value)
    return made


def frame(of: Any) -> bytes:
    return b"data: %b\n\n" % CHAT.json(of)


def learned(of: Any, path: Any = PATH) -> Alike:
    alike = Alike()
    alike.learn(of, CHAT.json(of), path)
    return alike


@given(
    st.lists(PLACES, max_size=2),
    TEXTS,
    st.lists(PLACES, max_size=1),
    st.sampled_from([{}, {"obfuscation": "x1Y"}]),
)
def test_what_is_alike_has_a_frame_that_is(
    both: list[Any], text: Any, one: list[Any], more: dict[str, Any]
) -> None:
    known = chunk("known", *both, **more)
    other = chunk(text, *both, *one, **more)
    found = learned(known).text_of(other)
    if found:
        data = json.loads(CHAT.json(known))
        pattern = pattern_of(Chunk("data", frame(known), data), PATH)
        assert pattern is not None
        assert pattern.text_of(frame(other)) == found == text


@pytest.mark.parametrize("text", ["word", "é ☃ 𝄞", 'qu"ote \\'])
@pytest.mark.parametrize("more", [{}, {"obfuscation": "x1Y", "service_tier": "default"}])
def test_a_text_is_found_and_replaced_in_a_copy(text: str, more: dict[str, Any]) -> None:
    alike, like = (
        learned(chunk("known", **more)),
        chunk(text, **{**more, **({"obfuscation": "b"} if more else {})}),
    )
    like._hidden_params = {"a": 1, "original_response": "secret"}
    assert alike.text_of(like) == text
    made = alike.with_text(like, "OTHER")
    data = json.loads(CHAT.json(like))
    data["choices"][0]["delta"]["content"] = "OTHER"
    wanted = revised(like, CHAT.json(like), data)
    assert made == wanted
    assert made._hidden_params == wanted._hidden_params == {"a": 1}
    assert like.choices[0].delta.content == text


class Other(ModelResponseStream):
    """What it says besides is no field that was learned."""

    said: str = "secret"


UNLIKE: dict[str, Any] = {
    "another class": lambda: Other(**chunk("word").model_dump()),
    "another value": lambda: chunk("word", (0, "id", "b")),
    "a field more": lambda: chunk("word", (2, "refusal", "secret")),
    "another number": lambda: chunk("word", (1, "index", 1)),
    "a list of two": lambda: chunk("word", (0, "choices", chunk("word").choices * 2)),
    "no list": lambda: chunk("word", (0, "choices", None)),
    "no text": lambda: chunk(None),
    "parts": lambda: chunk(["word"]),
    "bytes": lambda: b"word",
    "a str": lambda: "word",
}


@pytest.mark.parametrize("unlike", UNLIKE)
def test_what_is_not_alike(unlike: str) -> None:
    assert learned(chunk("known")).text_of(UNLIKE[unlike]()) is None


@pytest.mark.parametrize("text", ["", "line\nend", "a\u2028b", "\x85", "\ud800", "\xa0", "w" * 20_000])
def test_what_is_alike_and_has_to_be_seen_as_json(text: str) -> None:
    assert learned(chunk("known")).text_of(chunk(text)) == ""


@pytest.mark.parametrize("filler", ["two words", "sécret", "", None, 7, "x" * 200])
def test_what_is_no_filler_says_something(filler: Any) -> None:
    known = learned(chunk("known", obfuscation="x1Y"))
    said = known.text_of(chunk("word", obfuscation=filler))
    assert said == ("word" if filler == "" else None)


@pytest.mark.parametrize(
    "known",
    [
        chunk("known", (1, "logprobs", {"content": [{"token": "known"}]})),
        chunk("known", usage={"total_tokens": 1}),
        chunk("known", other=["known"]),
    ],
    ids=["logprobs", "usage", "a list"],
)
def test_nothing_is_learned_where_more_stands_that_has_parts(known: Any) -> None:
    """Equal lists may hold other objects, and objects say themselves to what they are equal."""
    assert learned(known).text_of(known) is None


def test_nothing_is_learned_of_what_json_does_not_show() -> None:
    known = chunk("known")
    alike = Alike()
    alike.learn(known, CHAT.json(chunk("known", (0, "model", None))), PATH)
    assert alike.text_of(known) is None
    for odd in ({"id": "a"}, b"bytes", "str"):
        alike.learn(odd, b'{"id": "a"}', ("id",))
        assert alike.text_of(odd) is None


def test_lessons_are_bounded_and_another_place_is_another_lesson() -> None:
    alike = Alike()
    for number in range(20):
        known = chunk("known", (0, "id", str(number)))
        alike.learn(known, CHAT.json(known), PATH)
    assert alike.text_of(known) is None
    alike = learned(both := chunk("known", (2, "refusal", "no")))
    assert alike.text_of(both) == "known"
    alike.learn(both, CHAT.json(both), ("choices", 0, "delta", "refusal"))
    assert alike.text_of(both) == "no"


def test_what_is_made_like_a_chunk_of_which_the_text_was_enough_says_nothing_of_it() -> None:
    """Also where it says what the last one did that was read whole."""
    came = Chunks(ClientExchange(Guard(), CHAT, Arguments({"model": "m", "messages": []}), raises=False))
    came.framed(shared := chunk("shared"))
    came.decided(shared, None, Release(alike=PATH))
    secret = chunk("secret")
    assert came.left(secret, "secret", "secret") is secret
    (made,) = came.made(frame(chunk("shared")))
    assert made.choices[0].delta.content == "shared"


def test_a_chunk_of_which_the_text_was_enough_leaves_as_it_came_also_in_a_release() -> None:
    came = Chunks(ClientExchange(Guard(), CHAT, Arguments({"model": "m", "messages": []}), raises=False))
    first, second = chunk("first"), chunk("second")
    came.framed(first)
    came.decided(first, None, Release(((b"", 0),), alike=PATH))
    release = Release(((b"", 1), (b"", 0)))
    came.decided(second, "second", release)
    assert [*came.leaving(release)] == [second, first]
    assert came.text_of(second) is None, "nothing was said of the next one"


class Odd(Policy):
    """Changes, drops and blocks by what a chunk says, and now and then waits for somebody."""

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> Any:
        if "wait" in chunk.text:
            await anyio.lowlevel.checkpoint()
        if "SECRET" in chunk.text:
            return Block("it says SECRET", "That is secret.")
        return chunk.replace(text=chunk.text.replace("gone", "")) if chunk.writable else None


def event(delta: dict[str, Any], index: int, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


WORDS = st.sampled_from([" word", " word", "gone", " gone away", " wait", "\n", "é\u2028", " SECRET", ""])
CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
KINDS = st.sampled_from(["content", "content", "content", "reasoning_content", "tool_calls"])


@st.composite
def runs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Chunks of one kind and one choice after another."""
    kind, index, role = (
        draw(KINDS),
        draw(st.sampled_from([0, 0, 0, 1])),
        draw(st.sampled_from([{}, {"role": "assistant"}])),
    )
    said = draw(st.lists(WORDS, min_size=1, max_size=7)) if kind != "tool_calls" else [[CALL]]
    return [event({kind: each, **(role if at == 0 else {})}, index) for at, each in enumerate(said)]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(runs(), max_size=4))
async def test_a_stream_is_the_same_as_for_who_reads_all_json(
    provider: Provider, said: list[list[Any]]
) -> None:
    """Who captures an answer is fed every chunk whole; and the far side of the seam says the same."""
    events = [each for run in said for each in run]
    provider.answers = [[*events, event({}, 0, "stop"), b"data: [DONE]\n\n"]]
    far = Guard([Odd()])
    far.plane = JsonPlane(far.plane)  # type: ignore[assignment]
    found = await heard(Guard([Odd()]), provider)
    assert found == await heard(Guard([Odd()], capture_chunks=True), provider)
    assert found == await heard(far, provider)


async def heard(guard: Guard, provider: Provider) -> tuple[Any, ...]:
    chunks: list[Any] = []
    try:
        stream = await ask(guard, provider, stream=True)
        async for each in stream:
            chunks.append({**json.loads(CHAT.json(each)), "created": 0, "id": each.id == "c"})  # noqa: PERF401 -- up to an error
    except Exception as error:
        chunks.append(repr(error))
    (call_id,) = guard.recent_calls
    facts = [each for each in guard.records_of(call_id) if each.type is not EventType.RESPONSE_CHUNKS]
    return chunks, [
        (each.type, each.policy, each.details.get("outcome"), each.details.get("reason")) for each in facts
    ]
