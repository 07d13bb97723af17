"""Several choices in one stream: litellm says of one of them that it is finished, of whichever it was."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from litellm.exceptions import APIError

from luthien_guard import Block, Guard, Policy, hookimpl
from luthien_guard.client.ending import are_whole, arguments_in
from tests.client.calls import ask
from tests.client.provider import Provider

pytestmark = pytest.mark.anyio

DONE = b"data: [DONE]\n\n"


def said(choice: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choices = [{"index": choice, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": choices}


def begun(choice: int, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    call = {"index": 0, "id": f"call_{name}", "type": "function", "function": function}
    return said(choice, {"role": "assistant", "tool_calls": [call]})


def more(choice: int, arguments: str) -> dict[str, Any]:
    return said(choice, {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})


def end(choice: int) -> dict[str, Any]:
    return said(choice, {}, "tool_calls")


BEGUN = [begun(0, "ls", '{"a"'), begun(1, "rm", '{"b"')]
REST = [more(0, ":1}"), more(1, ":2}")]
WHOLE = {(0, "ls"): '{"a":1}', (1, "rm"): '{"b":2}'}


class Calls(Policy):
    """Tells of each call; blocks those of one name."""

    name = "calls"

    def __init__(self, tell: Callable[[tuple[str, str]], None], blocked: str = "") -> None:
        self._tell = tell
        self._blocked = blocked

    @hookimpl
    def on_tool_call_completed(self, call: Any, ctx: Any) -> Any:
        self._tell((call.name, call.arguments))
        return Block("not this one", "Not this one.") if call.name == self._blocked else None


async def heard(guard: Guard, provider: Provider, n: int = 2) -> list[Any]:
    return [chunk async for chunk in await ask(guard, provider, stream=True, n=n)]


def calls_in(chunks: list[Any]) -> dict[tuple[int, str], str]:
    names: dict[int, str] = {}
    found: dict[tuple[int, str], str] = defaultdict(str)
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        for call in choice.delta.tool_calls or ():
            names.setdefault(choice.index, call.function.name)
            found[choice.index, names[choice.index]] += call.function.arguments
    return dict(found)


@pytest.mark.parametrize(
    "events",
    [
        [*BEGUN, *REST, end(0), end(1)],
        [*BEGUN, *REST, end(1), end(0)],
        [*BEGUN, REST[0], end(0), REST[1], end(1)],
        [*BEGUN, REST[1], end(1), REST[0], end(0)],  # litellm says that choice 0 is finished, in its middle
    ],
)
async def test_whole_calls_of_every_choice_leave(provider: Provider, events: list[Any]) -> None:
    provider.answers = [[*events, DONE]]
    seen: list[tuple[str, str]] = []
    chunks = await heard(Guard([Calls(seen.append)]), provider)
    assert calls_in(chunks) == WHOLE
    assert sorted(seen) == sorted((name, arguments) for (_, name), arguments in WHOLE.items())
    assert [each.model_dump_json(exclude={"created"}) for each in chunks] == [
        each.model_dump_json(exclude={"created"}) for each in await heard(Guard(), provider)
    ]


@pytest.mark.parametrize(
    "events",
    [
        [*BEGUN, REST[0], end(0)],
        [*BEGUN, REST[1], end(1)],
        [*BEGUN, *REST],  # nobody has said that anything is finished
        [begun(0, "ls", "{}"), begun(1, "rm", ""), end(0)],
        [begun(0, "ls", "{}"), begun(1, "rm", "1"), end(0)],
    ],
)
async def test_half_a_call_never_looks_whole(provider: Provider, events: list[Any]) -> None:
    provider.answers = [events]
    with pytest.raises(APIError, match="ended inside a tool call"):
        await heard(Guard([Calls(print)]), provider)


@pytest.mark.parametrize("arguments", ["", '{"a"', '{"a":1', "[1]"])
async def test_nor_does_it_where_litellm_finishes_what_upstream_did_not(
    provider: Provider, arguments: str
) -> None:
    """In good order, and without a word."""
    provider.answers = [[begun(0, "ls", arguments)]]
    seen: list[tuple[str, str]] = []
    with pytest.raises(APIError, match="ended inside a tool call"):
        await heard(Guard([Calls(seen.append)]), provider, n=1)
    assert not seen


@pytest.mark.parametrize(
    "events",
    [
        [begun(0, "ls", '{"a":1}')],  # it may have been all
        [said(0, {"content": "some"})],
        [begun(0, "ls", '{"a"'), end(0)],  # upstream says so itself
        [begun(0, "ls", '{"a"'), said(0, {}, "length")],
        [said(0, {"tool_calls": begun(0, "ls", '{"a"')["choices"][0]["delta"]["tool_calls"]}, "tool_calls")],
    ],
)
async def test_any_other_end_is_litellms_own(provider: Provider, events: list[Any]) -> None:
    provider.answers = [events]
    chunks = await heard(Guard([Calls(lambda call: None)]), provider, n=1)
    wanted = await heard(Guard(), provider, n=1)
    assert [each.model_dump(exclude={"created"}) for each in chunks] == [
        each.model_dump(exclude={"created"}) for each in wanted
    ]


async def test_a_call_of_another_choice_is_blocked(provider: Provider) -> None:
    provider.answers = [[*BEGUN, *REST, end(0), end(1), DONE]]
    seen: list[tuple[str, str]] = []
    chunks = await heard(Guard([Calls(seen.append, "rm")]), provider)
    assert ("rm", '{"b":2}') in seen
    left = "".join(each.model_dump_json() for each in chunks)
    assert "Not this one." in left
    assert "call_rm" not in left


def chunk(*deltas: dict[str, Any]) -> bytes:
    return json.dumps({"choices": [{"index": at, "delta": each} for at, each in enumerate(deltas)]}).encode()


def fragment(arguments: Any, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def legacy(arguments: str) -> dict[str, Any]:
    return {"function_call": {"arguments": arguments}}


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(fragment("{}"))],
        [chunk({"content": "a"}), chunk(fragment('{"a":')), chunk(fragment("1}"))],
        [chunk(fragment("{"), fragment("{}")), chunk(fragment("}", 0), fragment("{}", 1))],
        [chunk(legacy("{"), {"content": "a"}), chunk(legacy("}"), fragment("{}"))],
    ],
)
def test_calls_with_whole_arguments(chunks: list[bytes]) -> None:
    assert are_whole(arguments_in(chunks))


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk({"content": "{}"})],
        [chunk(fragment("{}"), fragment("{"))],
        [chunk(fragment("{}")), chunk(fragment("", 1))],
        [chunk(fragment('"text"'))],
        [chunk(fragment("{}")), chunk(fragment("{}"))],
        [chunk(fragment('{"a":1,"a":2}'))],
        [chunk(fragment({"a": 1}))],
        [chunk(legacy("{"))],
        [chunk({"tool_calls": [{"index": 0, "custom": {"input": "{}"}}]})],
        [chunk({"tool_calls": "{}"})],
        [b'{"id":"a"}'],
        [b'{"choices":[{"index":0,"delta":{"content":"\\ud800"}}]}'],
    ],
)
def test_what_is_no_whole_call(chunks: list[bytes]) -> None:
    assert not are_whole(arguments_in(chunks))
