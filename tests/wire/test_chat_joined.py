"""What one client skips does not stand between two halves that it joins: policies and all clients read the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from luthien_guard import Block, ChatRequest, Guard, Policy, ToolCall, hookimpl
from luthien_guard.events import Chunk, ContentChunk, ContentCompleted
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.wire.chat import CHAT
from tests.cases.chat_wire import DONE, call, chunk, through
from tests.official_sdks import reads
from tests.wire.harness import chunks_of
from tests.wire.joined import Forbids

pytestmark = pytest.mark.anyio

MARK = "MARK !"
END = chunk({}, finish="stop") + DONE
steps = pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])


class NoMark(Policy):
    """Blocks the mark in a text or a call that is whole."""

    def __init__(self, seen: list[tuple[str, str]] | None = None) -> None:
        super().__init__()
        self._seen = [] if seen is None else seen

    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> Block | None:
        return Block("mark", "NO") if MARK in content.text else None

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        self._seen.append((call.name, call.arguments))
        return Block("mark", "NO") if MARK in call.arguments else None


class Cuts(Policy):
    """Ends the answer where the mark comes."""

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("mark", "NO") if MARK in chunk.text else None


class Rewrites(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> ToolCall:
        return call.replace(arguments='{"new":1}')


# -- clients -------------------------------------------------------------------------------------------------------------


def official(body: bytes) -> str:
    """`client.chat.completions.stream()`: it skips what has another `object`, and stops at what it cannot read."""
    state: Any = ChatCompletionStreamState()
    try:
        for each in reads("openai.chat", body, stream=True):
            if getattr(each, "object", None) == "chat.completion.chunk":
                state.handle_chunk(each)
        return str(state.current_completion_snapshot.to_json())
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return ""


def first_choice(body: bytes) -> str:
    return "".join(text for delta in deltas(body) if isinstance(text := delta.get("content"), str))


def flat(body: bytes) -> str:
    """Strings, and the texts of lists."""
    found: list[str] = []
    for delta in deltas(body):
        content = delta.get("content") or []
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [part["text"] for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(found)


def event_source(body: bytes) -> str:
    """`onmessage` of a browser: frames without a name."""
    return first_choice(b"".join(one.raw for one in chunks_of(body, stream=True) if one.event is None))


def litellm(body: bytes) -> str:
    """It takes `reasoning` where there is no `reasoning_content`."""
    names = ("reasoning_content", "reasoning")
    return "".join(next((one for name in names if (one := delta.get(name))), "") for delta in deltas(body))


def node(body: bytes) -> str:
    """`stream()` of the SDK for JavaScript: a message takes the place of what was said so far, and deltas go on with it."""
    content, arguments = "", {}
    for data in (one.data for one in chunks_of(body, stream=True) if isinstance(one.data, dict)):
        choice = data["choices"][0] if data.get("choices") else {}
        if isinstance(message := choice.get("message"), dict):
            content = message.get("content") or ""
            arguments = dict(enumerate(map(_arguments, message.get("tool_calls") or [])))
        delta = choice.get("delta") or {}
        content += said if isinstance(said := delta.get("content"), str) else ""
        for entry in delta.get("tool_calls") or []:
            at = entry.get("index")
            arguments[at] = arguments.get(at, "") + _arguments(entry)
    return "\n".join([content, *arguments.values()])


def by_place(body: bytes) -> str:
    """The official SDK before its version 3: the first list of calls as it is, and a later fragment for what stands at the
    place of its index."""
    taken: list[str] = []
    for listed in (delta.get("tool_calls") or [] for delta in deltas(body)):
        if not taken:
            taken = [_arguments(entry) for entry in listed]
            continue
        for entry in listed:
            at = entry.get("index")
            if type(at) is int and 0 <= at < len(taken):
                taken[at] += _arguments(entry)
            else:
                taken.append(_arguments(entry))
    return "\n".join(taken)


def _arguments(entry: dict[str, Any]) -> str:
    said = (entry.get("function") or {}).get("arguments")
    return said if isinstance(said, str) else ""


def deltas(body: bytes) -> list[dict[str, Any]]:
    """Of the first choice in each chunk, also behind [DONE]."""
    datas = [one.data for one in chunks_of(body, stream=True) if isinstance(one.data, dict)]
    return [data["choices"][0].get("delta") or {} for data in datas if data.get("choices")]


def entries(body: bytes) -> list[dict[str, Any]]:
    return [entry for delta in deltas(body) for entry in delta.get("tool_calls") or []]


def strict(body: bytes) -> str:
    """Who checks each chunk, skips one that is not as the format says, and reads on."""
    found: list[str] = []
    for data in (one.data for one in chunks_of(body, stream=True)):
        delta = data["choices"][0].get("delta") or {} if _fits(data) else {}
        found += [delta.get("content") or ""]
        found += [entry["function"].get("arguments") or "" for entry in delta.get("tool_calls") or []]
    return "".join(found)


def _fits(data: Any) -> bool:
    if not isinstance(data, dict) or not data.get("choices") or "error" in data:
        return False
    members = [(data, "id", str), (data, "model", str), (data, "created", int), (data, "usage", dict)]
    for choice in data["choices"]:
        if not isinstance(choice, dict) or type(choice.get("index")) is not int:
            return False
        delta = choice.get("delta") or {}
        members += [(choice, "finish_reason", str), (choice, "logprobs", dict), (delta, "content", str)]
        members += [(delta, "refusal", str), (delta, "tool_calls", list), (delta, "annotations", list)]
        if not isinstance(delta, dict) or delta.get("role") not in (None, "assistant"):
            return False
        for entry in delta.get("tool_calls") or []:
            if not isinstance(entry, dict) or not isinstance(entry.get("function"), dict):
                return False
            members += [(entry, "id", str)]
            members += [(entry["function"], key, str) for key in ("name", "arguments")]
            if entry.get("type") not in (None, "function"):
                return False
    return all(type(holder.get(key)) in (kind, type(None)) for holder, key, kind in members)


CLIENTS: tuple[Callable[[bytes], str], ...] = (
    official,
    by_place,
    first_choice,
    flat,
    event_source,
    litellm,
    strict,
    node,
)


# -- what upstream says --------------------------------------------------------------------------------------------------


def text(content: Any, **more: Any) -> bytes:
    return chunk({"content": content}, **more)


def calls(*entries: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(entries)})


def begun(arguments: Any) -> dict[str, Any]:
    return call(0, "a", "sh", arguments)


def more(arguments: Any, **more: Any) -> dict[str, Any]:
    return call(0, None, None, arguments, **more)


def named(event: str, frame: bytes) -> bytes:
    return b"event: %b\n%b" % (event.encode(), frame)


def choices(*contents: str) -> bytes:
    return in_one(*({"index": 0, "delta": {"content": one}} for one in contents))


def in_one(*choices: dict[str, Any]) -> bytes:
    data = {"object": "chat.completion.chunk", "id": "c1", "choices": choices}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def message(delta: Any = None, **message: Any) -> bytes:
    return in_one({"index": 0, "message": {"role": "assistant", **message}, "delta": delta or {}})


def legacy(arguments: Any) -> bytes:
    return chunk({"function_call": {"name": None, "arguments": arguments}})


ROLE = chunk({"role": "assistant", "content": ""})
PARTS = [{"type": "text", "text": "x"}]
CUSTOM = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "p", "input": "z"}}
CASES: dict[str, bytes] = {
    "a list in a string": ROLE + text("MARK") + text(PARTS) + text(" !"),
    "a list in a refusal": chunk({"refusal": "MARK"}) + chunk({"refusal": PARTS}) + chunk({"refusal": " !"}),
    "strings around a list in a refusal": text("MARK")
    + chunk({"content": "x", "refusal": PARTS})
    + text(" !"),
    "an object in a string": ROLE + text("MARK") + text({"a": "x"}) + text(" !"),
    "strings around a list": ROLE + text("x") + text([{"type": "text", "text": "MARK"}]) + text(" !"),
    "parts of one index": text([{"index": 0, "type": "text", "text": "MARK"}])
    + text([{"index": 1, "type": "text", "text": "x"}])
    + text([{"index": 0, "type": "text", "text": " !"}]),
    "parts of another kind": text([{"index": 0, "type": "text", "text": "MARK"}])
    + text([{"index": 0, "type": "odd", "text": " !"}]),
    "an object in arguments": calls(begun("MARK")) + calls(more({"a": "x"})) + calls(more(" !")),
    "a number in arguments": calls(begun("MARK")) + calls(more(5)) + calls(more(" !")),
    "an object in arguments of the old kind": chunk({"function_call": {"name": "x", "arguments": "MARK"}})
    + legacy({"a": 1})
    + legacy(" !"),
    "arguments in objects": calls(begun({"c": "MARK"})) + calls(more({"c": " !"})),
    "a payload that nobody knows in objects": calls(
        {"index": 0, "id": "a", "type": "odd", "odd": {"a": "MARK"}}
    )
    + calls({"index": 0, "odd": {"a": " !"}}),
    "no object": ROLE + text("MARK") + text("x", object="") + text(" !"),
    "another object over a call": calls(begun("MARK"))
    + chunk({"tool_calls": [more("x")]}, object="odd")
    + calls(more(" !")),
    "another object over audio": chunk({"audio": {"id": "a", "transcript": "MARK"}})
    + chunk({"audio": {"transcript": "x"}}, object=None)
    + chunk({"audio": {"transcript": " !"}}),
    "a frame with a name": ROLE + text("MARK") + named("odd", text("x")) + text(" !"),
    "a frame of a thread": ROLE + text("MARK") + named("thread.x", text("x")) + text(" !"),
    "a fragment twice in the first chunk": calls(begun("MARK"), more("x")) + calls(more(" !")),
    "a choice twice": ROLE + choices("MARK", "x") + text(" !"),
    "reasoning under two names": chunk({"reasoning_content": "MARK"}) + chunk({"reasoning": " !"}),
    "reasoning under another name in between": chunk({"reasoning": "MARK"})
    + chunk({"reasoning": "x", "reasoning_content": " !"}),
    "text beside a call of another kind": text("MARK")
    + chunk({"content": "x", "tool_calls": [CUSTOM]})
    + text(" !"),
    "text beside a call that nobody knows": text("MARK")
    + chunk({"content": "x", "tool_calls": [{"index": 0, "id": "a", "type": "odd", "odd": {"a": 1}}]})
    + text(" !"),
    "text beside a call that says nothing yet": text("MARK")
    + chunk({"content": "x", "tool_calls": [{"index": 0, "id": "a"}]})
    + text(" !"),
    "text beside a call of another choice": text("MARK")
    + in_one({"index": 0, "delta": {"content": "x"}}, {"index": 1, "delta": {"tool_calls": [CUSTOM]}})
    + text(" !"),
    "a fragment beside a call of another kind": calls(begun("MARK"))
    + calls(more("x"), {**CUSTOM, "index": 1})
    + calls(more(" !")),
    "a fragment behind a call of another kind": calls(begun("MARK"))
    + calls({**CUSTOM, "index": 1}, more("x"))
    + calls(more(" !")),
    "text behind the end": text("MARK") + DONE + text(" !"),
    "a choice without an index in between": ROLE
    + text("MARK")
    + in_one({"delta": {"content": ""}}, {"index": 0, "delta": {"content": "x"}})
    + text(" !"),
    "a choice that was not asked for": ROLE + text("MARK") + text(" !", index=1),
    "one that was not asked for before it": ROLE
    + text("MARK")
    + in_one({"index": 1, "delta": {}}, {"index": 0, "delta": {"content": "x"}})
    + text(" !"),
    "a message before deltas": message(content="MARK") + text(" !"),
    "a message between deltas": ROLE + text("x") + message(content="MARK") + text(" !"),
    "a message beside a delta": message({"content": " !"}, content="MARK"),
    "a message with calls": calls(begun("x")) + message(tool_calls=[begun("MARK")]) + calls(more(" !")),
    "a message with calls before them": message(tool_calls=[begun("MARK")]) + calls(more(" !")),
}


@steps
@pytest.mark.parametrize("said", CASES.values(), ids=CASES)
async def test_no_client_joins_what_no_policy_saw(said: bytes, step: int) -> None:
    came = said + END
    assert any(MARK in client(came) for client in CLIENTS)
    sent = await through([NoMark()], came, step=step)
    assert [client.__name__ for client in CLIENTS if MARK in client(sent.body)] == []


ODD: dict[str, dict[str, Any]] = {
    "an id": {"id": 5},
    "a model": {"model": ["m"]},
    "a time": {"created": "now"},
    "a time that is a truth": {"created": True},
    "usage": {"usage": []},
    "counts": {"usage": {"prompt_tokens": "1"}},
    "a finish_reason": {"finish_reason": 5},
    "logprobs": {"logprobs": []},
    "tokens": {"logprobs": {"content": [{"token": "x"}]}},
    "a role": {"role": "user"},
    "no role": {"role": ""},
    "annotations": {"annotations": "x"},
    "an annotation": {"annotations": [{"type": "url_citation", "url_citation": {"url": "x"}}]},
    "an error that is empty": {"error": ""},
    "an error that is null": {"error": None},
}


@steps
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("first", [True, False], ids=["from the first on", "in between"])
async def test_what_is_not_of_the_type_that_clients_check_parts_nothing(
    odd: dict[str, Any], first: bool, step: int
) -> None:
    """Where the first chunk is skipped, all are: else these read what stands in every second."""
    inner = {key: odd[key] for key in odd if key in ("role", "annotations")}
    choice = {key: odd[key] for key in odd if key in ("finish_reason", "logprobs")}
    data = json.loads(chunk({"content": "x", **inner}).removeprefix(b"data: "))
    data["choices"][0] |= choice
    data |= {key: odd[key] for key in odd if key not in inner and key not in choice}
    strange = b"data: " + json.dumps(data).encode() + b"\n\n"
    said = strange * first + text("MARK") + strange + text(" !")
    sent = await through([NoMark()], ROLE + said + END, step=step)
    assert MARK not in strict(sent.body)
    assert first_choice(sent.body) == "x" * first + "MARKx !"


async def test_beside_an_error_nothing_is_said() -> None:
    said = text("MARK") + text("x", error={"message": "e"}) + text(" y")
    sent = await through([NoMark()], said + END)
    assert strict(sent.body) == first_choice(sent.body) == "MARK y" and b'"e"' in sent.body


@steps
@pytest.mark.parametrize(
    "odd",
    [{"id": 5}, {"type": "odd"}, {"type": 5}, {"function": {"name": 5, "arguments": "x"}}],
    ids=json.dumps,
)
async def test_nor_does_it_part_the_arguments_of_a_call(odd: dict[str, Any], step: int) -> None:
    said = calls(begun("MARK")) + calls({**more("x"), **odd}) + calls(more(" !"))
    sent = await through([NoMark()], said + END, step=step)
    assert strict(sent.body) == "MARKx !"


UNTOUCHED = {
    "a time that is a string everywhere": b"".join(text(one, created="now") for one in "ab"),
    "a role that says nothing everywhere": b"".join(chunk({"role": "", "content": one}) for one in "ab"),
    "no object at all": b"".join(text(one, object=None) for one in ("a", "b")),
    "another object everywhere": b"".join(text(one, object="chat.completion") for one in ("a", "b")),
    "names everywhere": b"".join(named("chunk", text(one)) for one in ("a", "b")),
    "parts first": text([{"type": "text", "text": "a"}]) + text("b"),
    "parts everywhere": text(PARTS) + text(PARTS),
    "both names of reasoning": chunk({"reasoning": "a", "reasoning_content": "a"}) * 2,
    "arguments as one object": calls(begun({"c": "x"})),
    "an object without a text": text("a") + chunk({}, object="") + chunk(object="") + text("b"),
    "choices side by side, as asked for": text("a") + text("b", index=1) + text("a") + text("b", index=1),
    "a message that repeats the deltas": text("a") + text("b") + message({"content": ""}, content="ab"),
    "nothing but messages": message(content="a") + message(content="a") + message({"content": ""}),
}


@steps
@pytest.mark.parametrize("said", UNTOUCHED.values(), ids=UNTOUCHED)
async def test_what_all_clients_read_alike_leaves_as_it_came(said: bytes, step: int) -> None:
    sent = await through([NoMark()], said + END, step=step, n=2)
    assert sent.body == said + END


@steps
@pytest.mark.parametrize(
    "members",
    [{"content": "a Night", "refusal": "jar"}, {"refusal": "jar", "content": "Night"}],
    ids=", ".join,
)
async def test_a_refusal_is_read_as_the_rest_of_the_content(members: dict[str, str], step: int) -> None:
    answer = {"choices": [{"index": 0, "message": members, "finish_reason": "stop"}]}
    sent = await through([Forbids()], json.dumps(answer).encode(), step=step, stream=False)
    assert b"jar" not in sent.body
    streamed = chunk({"content": members["content"]}) + chunk({"refusal": members["refusal"]})
    for said in (streamed, message(**members), chunk(members)):
        sent = await through([Forbids()], said + END, step=step)
        assert b"Night" not in sent.body or b"jar" not in sent.body


@steps
@pytest.mark.parametrize("content", [" !", [{"type": "text", "text": " !"}]], ids=["a string", "a list"])
async def test_no_content_leaves_behind_a_refusal(content: Any, step: int) -> None:
    said = text("a") + chunk({"refusal": "MARK"}) + text(content) + chunk({"refusal": "b"}) + END
    sent = await through([NoMark()], said, step=step)
    assert sent.body == (text("a") + chunk({"refusal": "MARK"}) + chunk({"refusal": "b"}) + END)
    sent = await through(Guard([NoMark()], unknown="block"), said, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


@pytest.mark.parametrize("said", [{}, {"content": "a"}, {"tool_calls": []}], ids=json.dumps)
async def test_no_message_takes_away_the_beginning_of_a_call(said: dict[str, Any]) -> None:
    begins = text("a") + calls(begun("no ")) + message(**said) + calls(call(0, "a", "sh", "{}"))
    sent = await through([NoMark()], begins + END)
    assert node(sent.body) == "a\nno {}" and b'"message"' not in sent.body


async def test_a_message_that_repeats_the_deltas_is_no_text_of_its_own() -> None:
    """Wherever it stands in its chunk."""
    said = (
        message({"content": ""}, content="")
        + text("a")
        + message(content="a")
        + text("b")
        + message(content="ab")
    )
    reader = CHAT.reader(stream=True)
    pieces = [piece for one in chunks_of(said, stream=True) for piece in reader.read(one)]
    assert [piece.text for piece in pieces if piece.kind.value == "echo"] == ["a", "ab"]
    assert [stop.block.text for stop in reader.close() if stop.block] == ["ab"]


@steps
@pytest.mark.parametrize(
    "said",
    [
        message({"content": " !, MARK"}, content=" !, MARK"),
        text(" ") + message({"content": "!, MARK "}, content=" !, MARK "),
        text("a") + message({"content": " !, MARK"}, content="a !, MARK", x="y") + text("b"),
    ],
)
async def test_no_message_leaves_beside_the_delta_that_it_repeats(said: bytes, step: int) -> None:
    """The SDK for JavaScript puts the delta behind it once more."""
    sent = await through(Guard([NoMark()], unknown="block"), said + END, step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert MARK not in node(sent.body) and b'"message"' not in sent.body


# -- what becomes of it --------------------------------------------------------------------------------------------------


USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def said_in(body: bytes) -> list[tuple[list[str], Any, bool]]:
    """Of each chunk: what its first choice says, why that ends, whether there is usage."""
    datas = [one.data for one in chunks_of(body, stream=True) if isinstance(one.data, dict)]
    firsts = [(data["choices"][0], bool(data.get("usage"))) for data in datas]
    return [(sorted(one["delta"]), one["finish_reason"], usage) for one, usage in firsts]


@steps
async def test_text_and_a_call_of_another_kind_leave_one_after_the_other(step: int) -> None:
    delta = {"role": "assistant", "content": "a", "tool_calls": [CUSTOM, call(1, "b", "sh", "{}")]}
    said = chunk(delta, finish="tool_calls", usage=USAGE) + DONE
    seen: list[tuple[str, str]] = []
    sent = await through([NoMark(seen)], said, step=step)
    assert said_in(sent.body) == [
        (["content", "role"], None, False),
        (["tool_calls"], None, False),
        (["tool_calls"], "tool_calls", True),
    ]
    assert [entry["id"] for entry in entries(sent.body)] == ["c", "b"]
    assert (sent.left.text, seen) == ("a", [("p", "z"), ("sh", "{}")])


@steps
async def test_where_the_call_goes_the_text_beside_it_stays(step: int) -> None:
    bad = {**CUSTOM, "custom": {"name": "p", "input": MARK}}
    sent = await through(
        [NoMark()], chunk({"content": "a", "tool_calls": [bad]}, finish="tool_calls") + DONE, step=step
    )
    assert (sent.left.text, sent.left.finish) == ("NOa", ("stop",))
    assert entries(sent.body) == []


@pytest.mark.parametrize("beside", [{}, {"role": "assistant", "content": None}, {"content": ""}])
async def test_a_call_of_another_kind_alone_leaves_as_it_came(beside: dict[str, Any]) -> None:
    said = chunk({**beside, "tool_calls": [CUSTOM]}) + END
    assert (await through([NoMark()], said)).body == said


async def test_calls_of_many_kinds_in_turns_do_not_leave() -> None:
    kinds = [{**(CUSTOM if at % 2 else begun("{}")), "index": at, "id": f"c{at}"} for at in range(40)]
    sent = await through([NoMark()], calls(*kinds) + END)
    assert sent.outcome.status is not OutcomeStatus.SUCCESS and entries(sent.body) == []


async def test_more_of_a_string_leaves_as_a_string() -> None:
    sent = await through([NoMark()], text("a") + text([*PARTS, {"type": "text", "text": "y"}]) + END)
    assert first_choice(sent.body) == flat(sent.body) == "axy"


async def test_a_chunk_leaves_under_the_heading_of_the_first_that_says_something() -> None:
    said = ROLE + named("odd", text("a", object="x")) + text("b") + named("other", text("c", object=None))
    sent = await through([NoMark()], said + END)
    kept = [one for one in chunks_of(sent.body, stream=True) if one.data and b'"content"' in one.raw][1:]
    assert [(one.event, one.data["object"]) for one in kept] == [("odd", "x")] * 3


@pytest.mark.parametrize(("policy", "bad"), [(Cuts, text(MARK)), (NoMark, calls(begun(MARK)))])
async def test_our_own_words_leave_under_that_heading_too(policy: type[Policy], bad: bytes) -> None:
    said = named("odd", ROLE) + named("odd", text("a")) + chunk({}, object="odd")
    sent = await through([policy()], said + named("odd", bad) + END, step=1)
    (ours,) = [one for one in chunks_of(sent.body, stream=True) if b"NO" in one.raw]
    assert (ours.event, ours.data["object"]) == ("odd", "chat.completion.chunk")
    assert "NO" in official(sent.body)


async def test_where_upstream_names_no_object_our_own_words_do() -> None:
    sent = await through([NoMark()], text("a", object=None) + calls(begun(MARK)) + END)
    assert [one["object"] for one in sent.chunks if isinstance(one, dict) and "NO" in str(one)] == [
        "chat.completion.chunk"
    ]


async def test_fragments_of_a_call_in_one_chunk_leave_as_one() -> None:
    seen: list[tuple[str, str]] = []
    said = calls({"index": 0, "id": "a"}, call(0, None, "sh", '{"a":'), more("1", type=None)) + calls(
        more("}")
    )
    sent = await through([NoMark(seen)], said + END)
    assert seen == [("sh", '{"a":1}')]
    first, second = entries(sent.body)
    assert (first["id"], first["function"]) == ("a", {"name": "sh", "arguments": '{"a":1'})
    assert second["function"] == {"arguments": "}"}


async def test_what_was_made_of_such_a_call_leaves_once() -> None:
    sent = await through([Rewrites()], calls(begun('{"a":'), more("1}")) + END)
    assert [entry["function"]["arguments"] for entry in entries(sent.body)] == ['{"new":1}']
    sent = await through([NoMark()], calls(begun("MARK"), more(" !")) + END)
    assert entries(sent.body) == []
    assert sent.left.text == "NO"


async def test_calls_of_one_index_in_one_chunk_are_calls() -> None:
    seen: list[tuple[str, str]] = []
    sent = await through([NoMark(seen)], calls(begun("{}"), call(0, None, "sh", '{"a":1}')) + END)
    assert seen == [("sh", "{}"), ("sh", '{"a":1}')]
    assert [entry["index"] for entry in entries(sent.body)] == [0, 1]


@pytest.mark.parametrize("index", [0, False, "0", 0.0], ids=repr)
async def test_no_two_calls_leave_under_one_index_however_it_is_spelled(index: Any) -> None:
    bare, named = ({**call(None, id, "sh", "MARK"), "index": index} for id in (None, "z"))
    again = [{**each, "function": {"name": "sh", "arguments": " !"}} for each in (bare, named)]
    sent = await through([NoMark()], calls(bare, named) + calls(*again) + END)
    indices = [entry["index"] for entry in entries(sent.body)]
    assert sorted(indices) == list(range(len(sent.left.tool_calls)))


async def test_fragments_that_leave_as_one_leave_at_the_index_of_their_call() -> None:
    said = calls(begun(MARK)) + calls(call(1, "b", "sh", "{"))
    sent = await through(
        [NoMark()], said + calls(call(None, None, None, '"a"'), call(1, "b", None, ":1}")) + END
    )
    assert [(entry.get("index"), entry["id"]) for entry in entries(sent.body)] == [(0, "b"), (0, "b")]


async def test_fragments_that_leave_as_one_leave_under_the_id_of_their_call() -> None:
    said = calls(begun("{}")) + calls(call(1, "a", "sh", "{"))
    sent = await through(
        [NoMark()], said + calls(call(1, None, None, '"a"'), call(1, "a", None, ":1}")) + END
    )
    assert [entry["id"] for entry in entries(sent.body)] == ["a", "a_1", "a_1"]


async def test_reasoning_goes_on_under_its_first_name() -> None:
    sent = await through([NoMark()], chunk({"reasoning": "a"}) + chunk({"reasoning_content": "b"}) + END)
    assert [delta for delta in deltas(sent.body) if delta] == [{"reasoning": "a"}, {"reasoning": "b"}]


async def test_who_asked_for_one_choice_gets_one() -> None:
    """Some servers count tokens, or the blocks of another wire format, where the index of the choice belongs."""
    words = b"".join(text(f"w{at} ", index=at) for at in range(300))
    sent = await through([NoMark()], words + chunk({}, finish="stop", index=299) + DONE)
    assert first_choice(sent.body) == "".join(f"w{at} " for at in range(300))
    assert sent.left.choices == {0: first_choice(sent.body)}
    assert sent.body == b"".join(text(f"w{at} ") for at in range(300)) + END


async def test_an_explanation_is_said_where_the_call_was_in_whatever_choice_it_came() -> None:
    said = ROLE + text("a", index=1) + chunk({"tool_calls": [begun(MARK)]}, index=2)
    sent = await through([NoMark()], said + chunk({}, finish="tool_calls", index=2) + DONE)
    assert (sent.left.choices, sent.left.finish) == ({0: "a\n\nNO"}, ("stop",))


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (0, 1), (1, 1), (2, 2)])
def test_a_request_says_how_many_answers_it_asks_for(n: int | None, choices: int) -> None:
    raw: dict[str, Any] = {"model": "m", "messages": [], "n": n}
    assert ChatRequest("openai.chat", raw).choices == choices
    assert ChatRequest("openai.responses", raw).choices == 1


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": 3}])
async def test_the_one_choice_is_choice_0_also_without_an_index(index: dict[str, Any]) -> None:
    sent = await through([NoMark()], ROLE + in_one({**index, "delta": {"content": "a"}}) + END)
    assert [
        choice["index"] for each in sent.chunks if isinstance(each, dict) for choice in each["choices"]
    ] == [0] * 3


@steps
@pytest.mark.parametrize("index", [{}, {"index": None}])
async def test_a_choice_without_an_index_is_choice_0_also_of_several(
    index: dict[str, Any], step: int
) -> None:
    """Clients that go by the index would read another choice there, and "MARK !" in choice 0."""
    said = text("MARK") + in_one({**index, "delta": {"content": "x"}}) + text(" !") + text("b", index=1)
    sent = await through([NoMark()], said + END, step=step, n=2)
    found = [choice for each in sent.chunks if isinstance(each, dict) for choice in each["choices"]]
    assert [each["index"] for each in found] == [0, 0, 0, 1, 0]


async def test_who_only_observes_changes_no_index() -> None:
    said = text("a", index=1) + END
    assert (await through(Guard([NoMark()], mode="observe"), said)).body == said


async def test_a_choice_that_stands_twice_still_ends() -> None:
    one = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    data = {"object": "chat.completion.chunk", "choices": [one, {**one, "finish_reason": "stop"}]}
    sent = await through([NoMark()], b"data: " + json.dumps(data).encode() + b"\n\n" + DONE)
    first, second = sent.chunks[0]["choices"]
    assert (first["delta"], second["delta"]) == ({"content": "a"}, {})
    assert second["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "said",
    [
        CASES[name]
        for name in (
            "an object in arguments",
            "arguments in objects",
            "a choice twice",
            "text behind the end",
            "a message before deltas",
            "a message between deltas",
            "reasoning under another name in between",
        )
    ],
)
async def test_what_does_not_leave_is_of_an_unknown_kind(said: bytes) -> None:
    said = said.replace(b" !", b"!")
    sent = await through(Guard([NoMark()], unknown="block"), said + END)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


def test_many_thousands_of_fragments_in_one_chunk_are_read() -> None:
    fragments = [begun("x"), *({**more("x"), f"k{at}": at} for at in range(10_000))]
    data = {"choices": [{"index": 0, "delta": {"tool_calls": fragments}}]}
    pieces = CHAT.reader(stream=True).read(Chunk("data", b"", data))
    assert [piece.text for piece in pieces if piece.kind.value == "delta"] == ["x" * 10_001]


ODD_PART = [{"type": "odd", "text": "Night"}]
JAR_PART = [{"type": "text", "text": "jar"}]


@steps
@pytest.mark.parametrize(
    "contents",
    [
        [ODD_PART, JAR_PART],
        [[*ODD_PART, *JAR_PART]],
        [JAR_PART, ODD_PART, JAR_PART],
        [[*ODD_PART, {"type": "tool_use", "name": "a", "text": "x"}, *JAR_PART]],
    ],
    ids=["in two deltas", "in one", "behind another", "around a call, which goes"],
)
async def test_the_text_of_a_part_that_nobody_knows_is_read_with_the_others(
    contents: list[Any], step: int
) -> None:
    """Clients that ask a part for its text do not ask for its type."""
    body = b"".join(chunk({"content": content}) for content in contents) + END
    sent = await through([Forbids()], body, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert b"jar" not in sent.body.partition(b"Night")[2]


async def test_so_it_is_in_a_body() -> None:
    message = {"role": "assistant", "content": [*ODD_PART, *JAR_PART]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()
    sent = await through([Forbids()], body, stream=False)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


@steps
async def test_nor_do_clients_that_ask_a_part_for_its_thinking(step: int) -> None:
    parts = [{"type": kind, "thinking": part} for kind, part in (("odd", ODD_PART), ("thinking", JAR_PART))]
    body = b"".join(chunk({"content": [part]}) for part in parts) + END
    sent = await through([Forbids()], body, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


async def test_a_part_that_nobody_knows_leaves_as_it_came() -> None:
    body = (
        chunk({"content": [{**ODD_PART[0], "x": 1}]})
        + chunk({"content": [{"type": "image", "url": "u"}]})
        + END
    )
    assert (await through([Forbids()], body)).body == body


def _text(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": text}


def _said(bodies: list[Any], member: str) -> list[dict[str, Any]]:
    chunks = [body for body in bodies if type(body) is dict]  # not the end
    contents = [choice[member].get("content") for body in chunks for choice in body["choices"]]
    return [part for content in contents for part in content or ()]


AROUND = [_text("MARK"), _text("x", "odd"), _text(" !")]
LED = [_text("x", "odd"), _text("MARK"), _text(" .")]


@steps
@pytest.mark.parametrize("lists", [[AROUND], [[one] for one in AROUND]], ids=["at once", "one by one"])
async def test_what_some_clients_skip_between_two_texts_is_a_text_for_all(lists: Any, step: int) -> None:
    body = ROLE + b"".join(chunk({"content": parts}) for parts in lists) + END
    sent = await through([NoMark()], body, step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert _said(sent.chunks, "delta") == [_text("MARK"), _text("x"), _text(" !")]


@pytest.mark.parametrize("parts", [AROUND, LED], ids=["between", "in front"])
async def test_so_it_is_in_a_body_and_what_stands_in_front_stays(parts: list[Any]) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}
    came = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    sent = await through([NoMark()], json.dumps(came).encode(), stream=False)
    left = _said([json.loads(sent.body)], "message")
    assert left == (LED if parts is LED else [_text("MARK"), _text("x"), _text(" !")])
