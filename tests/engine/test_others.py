"""Strings that a wire format does not model are looked at as clients put them together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard import (
    Block,
    ContentChunk,
    Guard,
    GuardMiddleware,
    Limits,
    Policy,
    PolicyContext,
    ToolCall,
    hookimpl,
)
from luthien_guard.engine.others import place_of
from luthien_guard.events import ContentCompleted, ResponseCompleted
from luthien_guard.testing import read
from tests.asgi_drive import ask, replay
from tests.cases.chat_wire import Sent, through

MARKER = "ZQXJKV!"
FILLER = "some filler text, longer than the look-ahead"


class Whole(Policy):
    @hookimpl
    def on_content_completed(self, content: ContentCompleted, ctx: PolicyContext) -> Block | None:
        return Block("whole") if MARKER in content.text else None


class Window(Policy):
    lookahead = 12

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Block | None:
        return Block("window") if MARKER in chunk.text else None


class Held(Policy):
    hold = "response"

    @hookimpl
    def on_response_completed(self, response: ResponseCompleted, ctx: PolicyContext) -> Block | None:
        said = [*(each.text for each in response.content), *(call.name for call in response.tool_calls)]
        said += [call.arguments for call in response.tool_calls]
        return Block("held") if any(MARKER in each for each in said) else None


def chunk(*choices: tuple[int | None, dict[str, Any]], finish: str | None = None) -> bytes:
    data = {
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": at, "delta": delta, "finish_reason": finish} for at, delta in choices],
    }  # fmt: skip
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def detail(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "type": "reasoning.text", "text": text}


def payload(text: str) -> dict[str, Any]:
    return {"function": {"input": text}}


def entry(id: str, **more: str) -> dict[str, Any]:
    """Of one index, whosever it is."""
    return {"index": 0, "id": id, "type": "function", "function": {"arguments": "", **more}}


START = {"role": "assistant", "content": "a"}
JOINED = {
    "choices that nobody asked for": [((0, {**START, "foo": "ZQX"}),), ((1, {"foo": "JKV!"}),)],
    "a choice without an index": [((0, {**START, "foo": "ZQX"}),), ((None, {"foo": "JKV!"}),)],
    "a field that nobody knows": [((0, {**START, "foo": "ZQX"}),), ((0, {"foo": "JKV!"}),)],
    "inside of one": [((0, {**START, "foo": {"x": "ZQX"}}),), ((0, {"foo": {"x": "JKV!"}}),)],
    "at once": [((0, {**START, "foo": MARKER}),)],
    "a choice whose index is no number": [((1, {**START, "foo": "ZQX"}),), ((True, {"foo": "JKV!"}),)],
    "choices that swap": [
        ((0, START), (1, START)),
        ((0, {"foo": "ZQX"}),),
        ((1, {}), (0, {"foo": "JKV!"})),
    ],
    "choices in turn": [
        ((0, {**START, "foo": "ZQX"}),),
        ((1, {**START, "foo": FILLER}),),
        ((0, {"foo": "JKV!"}),),
    ],
    "elements with an index": [
        ((0, {**START, "reasoning_details": [detail(0, "q"), detail(1, "ZQX")]}),),
        ((0, {"reasoning_details": [detail(1, "JKV!")]}),),
    ],
    "a choice that stands twice in between": [
        ((0, {**START, "foo": "ZQX"}),),
        ((0, {}), (0, {"foo": "x"})),
        ((0, {"foo": "JKV!"}),),
    ],
    "a payload that does not leave in between": [
        ((0, {**START, "tool_calls": [entry("a", input="ZQX")]}),),
        ((0, {"tool_calls": [{**entry("b"), "type": "custom", "custom": {"name": "b"}, **payload("x")}]}),),
        ((0, {"tool_calls": [entry("a", input="JKV!")]}),),
    ],
}
SEVERAL = {"choices that swap", "choices in turn", "a choice whose index is no number"}


async def left_of(policy: Policy, events: list[Any], n: int = 1) -> bytes:
    body = b"".join(chunk(*each) for each in events) + chunk((0, {}), finish="stop") + b"data: [DONE]\n\n"
    app = GuardMiddleware(replay(body, status=200, content_type="text/event-stream"), guard=Guard([policy]))
    request = {"model": "m", "messages": [], "stream": True, "n": n}
    return (await ask(app, "/v1/chat/completions", json.dumps(request).encode())).body


@pytest.mark.parametrize("policy", [Whole, Window, Held])
@pytest.mark.parametrize(("name", "events"), JOINED.items(), ids=JOINED)
async def test_what_clients_join_is_joined_for_policies(
    policy: type[Policy], name: str, events: list[Any]
) -> None:
    left = await left_of(policy(), events, n=2 if name in SEVERAL else 1)
    assert b"JKV!" not in left
    assert "Blocked" in read(left, "openai.chat", stream=True).text


@pytest.mark.parametrize("policy", [Whole, Window, Held])
async def test_what_nobody_joins_is_not_joined(policy: type[Policy]) -> None:
    events: list[Any] = [((0, {**START, "foo": "ZQX"}),), ((1, {**START, "foo": "JKV!"}),)]
    events += [((0, {"bar": "JKV!"}),)]
    assert b"Blocked" not in await left_of(policy(), events, n=2)


@pytest.mark.parametrize("policy", [Whole, Window, Held])
@pytest.mark.parametrize("about", [{"type": "a"}, {"index": 7}, {"output_index": 1}], ids=repr)
async def test_what_a_chunk_with_choices_says_it_is_about_keeps_nothing_apart(
    policy: type[Policy], about: dict[str, Any]
) -> None:
    said = unknown({"foo": "ZQX"}) + unknown({"foo": "JKV!"}, **about) + b"data: [DONE]\n\n"
    sent = await through([policy()], said)
    assert b"JKV!" not in sent.body


class Calls(Whole):
    """Decides on calls, too: then no two of them leave under one index."""

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> None:
        return None


@pytest.mark.parametrize("policy", [Calls, Held])
async def test_strings_of_a_call_are_joined_whatever_another_of_its_index_says(policy: type[Policy]) -> None:
    said = [entry("a", foo="ZQX"), entry("b", foo="x"), entry("a", foo="JKV!")]
    events: list[Any] = [((0, {"tool_calls": [each]}),) for each in said]
    assert b"JKV!" not in await left_of(policy(), [((0, START),), *events])


@pytest.mark.parametrize("policy", [Calls, Held])
async def test_strings_of_two_calls_are_apart_where_these_leave_apart(policy: type[Policy]) -> None:
    events: list[Any] = [
        ((0, {"tool_calls": [each]}),) for each in (entry("a", foo="ZQX"), entry("b", foo="JKV!"))
    ]
    assert b"Blocked" not in await left_of(policy(), [((0, START),), *events])


async def test_calls_that_share_an_index_are_apart_for_clients_too() -> None:
    """As the policy that holds the whole answer saw them."""
    calls = [("a", '{"a":"ZQX'), ("b", 'JKV!"}')]
    events: list[Any] = [((0, START),)]
    for id, arguments in calls:
        function = {"name": "bash", "arguments": arguments}
        events.append(
            ((0, {"tool_calls": [{"index": 0, "id": id, "type": "function", "function": function}]}),)
        )
    heard = read(await left_of(Held(), events), "openai.chat", stream=True)
    assert [call.arguments for call in heard.tool_calls] == [arguments for _, arguments in calls]


# -- what is kept of them ------------------------------------------------------------------------------------------------


class Looks(Policy):
    """Sees the response when it is over, and holds nothing."""

    @hookimpl
    def on_response_completed(self, response: ResponseCompleted, ctx: PolicyContext) -> None:
        return None


def unknown(*deltas: dict[str, Any], **more: Any) -> bytes:
    """A text that leaves, and then deltas with fields that nobody knows."""
    datas = [{"choices": [{"index": 0, "delta": delta}], **more} for delta in ({"content": "a"}, *deltas)]
    return b"".join(b"data: " + json.dumps(data).encode() + b"\n\n" for data in datas)


async def bounded(policy: Policy, body: bytes, *, stream: bool = True) -> Sent:
    guard = Guard([policy], limits=Limits(max_response_bytes=16_000))
    return await through(guard, body, stream=stream)


MANY = tuple({f"k{at}": "x"} for at in range(100))
TOO_MUCH = "more of what the wire format does not know is kept than the limit allows"
GROWING = {
    "places": unknown(*MANY, {"last": "x"}),
    "long names": unknown(*({f"k{at}" * 1000: "x"} for at in range(10)), {"last": "x"}),
    "long types": b"".join(unknown(foo="x x", type=f"k{at}" * 1000) for at in range(10))
    + unknown({"last": "x"}),
}


@pytest.mark.parametrize("policy", [Whole, Window, Looks])
@pytest.mark.parametrize("body", GROWING.values(), ids=GROWING)
async def test_what_is_kept_of_a_stream_is_bounded(policy: type[Policy], body: bytes) -> None:
    sent = await bounded(policy(), body)
    assert (sent.outcome.policy, sent.outcome.reason) == ("limits", TOO_MUCH)
    assert b"last" not in sent.body


async def test_so_is_what_is_kept_for_the_end() -> None:
    body = unknown(*({"foo": "x" * 1000} for _ in range(20)))
    assert (await bounded(Looks(), body)).outcome.reason == TOO_MUCH


@pytest.mark.parametrize("policy", [Whole, Window])
async def test_more_at_the_same_place_takes_the_place_of_what_stood_there(policy: type[Policy]) -> None:
    body = unknown(*({"foo": "x" * 1000} for _ in range(20)))
    assert (await bounded(policy(), body)).body == body


@pytest.mark.parametrize("policy", [Whole, Window, Looks])
async def test_a_body_may_have_as_many_places_as_it_has_room_for(policy: type[Policy]) -> None:
    message = {
        "role": "assistant",
        "content": "a",
        **{key: one for each in MANY for key, one in each.items()},
    }
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    assert (await bounded(policy(), body, stream=False)).body == body


@given(order=st.permutations(range(4)), at=st.integers(0, 3))
def test_an_element_with_an_index_is_where_its_index_says(order: list[int], at: int) -> None:
    data = {"choices": [{"index": index, "delta": {"foo": "x"}} for index in order]}
    place = place_of(data, ("choices", order.index(at), "delta", "foo"))
    assert place == place_of({"choices": [{"index": at}]}, ("choices", 0, "delta", "foo"))
    assert place != place_of({"choices": [{"index": at + 1}]}, ("choices", 0, "delta", "foo"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"type": "x", "output_index": 1}, {"type": "x", "output_index": 1.0}, True),
        ({"type": "x", "output_index": 1}, {"type": "x", "output_index": "1"}, True),
        ({"type": "x", "output_index": 1}, {"type": "x", "output_index": 2}, False),
        ({"type": "x", "index": 1}, {"type": "y", "index": 1}, False),
        ({"type": []}, {"type": {}}, True),
        (None, [], True),
    ],
)
def test_events_go_by_their_type_and_indices(one: Any, other: Any, same: bool) -> None:
    assert (place_of(one, ("delta", "foo")) == place_of(other, ("delta", "foo"))) is same
