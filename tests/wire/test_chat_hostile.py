"""What a hostile upstream says so that policies and clients read different things, or so that the guard falls over."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, Policy, ToolCall, hookimpl
from luthien_guard.errors import IllegalOutput
from luthien_guard.events import Chunk, ContentCompleted
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.wire.chat import CHAT
from luthien_guard.wire.chat.indices import MAX_CHOICES
from luthien_guard.wire.format import Block as WireBlock
from luthien_guard.wire.format import PieceKind, ReadChunk
from luthien_guard.wire.sse import canonical
from tests.cases.chat_wire import DONE, Sent, call, chunk, through
from tests.wire.harness import blocks_of, chunks_of, read_all, remove_calls, write_all

pytestmark = pytest.mark.anyio

END = chunk({}, finish="tool_calls") + DONE
steps = pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])


class Seen:
    """What policies saw, outside of them: they are shared by all exchanges."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.kinds: list[str] = []
        self.texts: list[tuple[str, str]] = []


class Judge(Policy):
    """Blocks `bash` and what says `rm -rf`; tells what it saw."""

    def __init__(self, seen: Seen | None = None) -> None:
        super().__init__()
        self._seen = seen or Seen()

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        self._seen.calls.append((call.name, call.arguments))
        self._seen.kinds.append(call.kind)
        return Block("no", "NO") if call.name == "bash" or "rm -rf" in call.arguments else None


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no calls", "NO")


class NoMark(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("mark", "NO") if "MARK !" in chunk.text else None


class Redact(Policy):
    lookahead = 8

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        at = chunk.text.find("SECRET")
        return None if at < 0 else chunk.edit((at, at + 6, "[gone]"))


class Texts(Policy):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> None:
        self._seen.texts.append((content.channel, content.text))


class Rewrites(Policy):
    def __init__(self, arguments: str) -> None:
        super().__init__()
        self._arguments = arguments

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> ToolCall:
        return call.replace(arguments=self._arguments)


def fragment(
    index: Any = None, id: str | None = None, name: str | None = None, text: str | None = None
) -> bytes:
    function = {key: one for key, one in (("name", name), ("arguments", text)) if one is not None}
    entry = {
        key: one for key, one in (("index", index), ("id", id), ("function", function)) if one is not None
    }
    return chunk({"tool_calls": [entry]})


def body(message: Any, finish: str = "tool_calls", **choice: Any) -> bytes:
    one = {"index": 0, "message": message, "finish_reason": finish, **choice}
    return json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [one]}).encode()


def entries(sent: bytes) -> list[dict[str, Any]]:
    return [
        entry
        for each in chunks_of(sent, stream=True)
        if isinstance(each.data, dict)
        for choice in each.data["choices"]
        for entry in (choice.get("delta") or {}).get("tool_calls") or []
    ]


def merged(sent: bytes, key: str) -> list[tuple[str, str]]:
    """Calls as a client makes them that goes by `key`; a missing index is 0, a missing id the one at the index."""
    found: dict[Any, list[str]] = {}
    ids: dict[Any, str] = {}
    for entry in entries(sent):
        at = entry.get("index") or 0
        ids[at] = entry.get("id") or ids.get(at, "")
        one = found.setdefault(at if key == "index" else ids[at], ["", ""])
        one[0] += entry["function"].get("name") or ""
        one[1] += entry["function"].get("arguments") or ""
    return sorted((name, text) for name, text in found.values())


# -- one call for the policy, one call for the client --------------------------------------------------------------------

HALF, REST = '{"cmd":"rm -r', 'f /"}'
TANGLED = {
    "an index used twice, then the next one": [
        (0, "a", "ls", "{}"),
        (0, "b", "sh", HALF),
        (1, "c", "x", REST),
    ],
    "an index used twice around another": [(0, "b", "ls", "{}"), (2, "c", "sh", HALF), (0, "d", "x", REST)],
    "an id used twice": [(0, "a", "sh", HALF), (1, "a", "x", REST)],
    "an id used three times": [(0, "a", "sh", HALF), (1, "a", "y", "{}"), (2, "a", "x", REST)],
    "no index": [(None, "a", "sh", HALF), (None, "b", "x", REST)],
    "no index and half a name": [(None, "a", "ba", None), (None, "b", "sh ", "{}")],
    "no index and index 0": [(None, "a", "sh", HALF), (0, "b", "x", REST)],
    "an index that an id has": [
        (0, "a", "sh", HALF),
        (1, "b", "x", "1"),
        (1, "a", None, "!"),
        (1, None, None, "2"),
    ],
}


@steps
@pytest.mark.parametrize("parts", TANGLED.values(), ids=TANGLED)
async def test_calls_that_were_judged_apart_stay_apart(parts: Any, step: int) -> None:
    seen = Seen()
    sent = await through([Judge(seen)], b"".join(fragment(*part) for part in parts) + END, step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert merged(sent.body, "index") == sorted(seen.calls)
    assert merged(sent.body, "id") == sorted(seen.calls)


def entry(index: int | None, id: str | None, name: Any, arguments: str) -> dict[str, Any]:
    """With all its members, whatever they say."""
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


BEGUN = chunk({"tool_calls": [entry(0, "a", "x", HALF)]})


@steps
@pytest.mark.parametrize("index", [1, None, 7])
@pytest.mark.parametrize("id", [None, "", " ", "\ufeff"], ids=ascii)
@pytest.mark.parametrize("name", [None, "", " ", "\ufeff\t", ["bash"], 1], ids=ascii)
async def test_what_begins_no_call_goes_on_with_none(
    index: int | None, id: str | None, name: Any, step: int
) -> None:
    """Vercel's SDK takes it for more of the call that has begun, others for another call."""
    seen = Seen()
    begun = BEGUN if index else b""  # without an index it is more of the last call, for all of them
    sent = await through(
        [Judge(seen)], begun + chunk({"tool_calls": [entry(index, id, name, REST)]}) + END, step=step
    )
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert [said.get("function") for said in entries(sent.body)] == [{"name": "x", "arguments": HALF}] * len(
        seen.calls
    )
    assert seen.calls == ([("x", HALF)] if begun else [])


@steps
async def test_nor_among_others_in_one_chunk(step: int) -> None:
    two = chunk({"tool_calls": [entry(0, "a", "x", HALF), entry(1, None, None, REST)]})
    sent = await through([Judge()], two + END, step=step)
    assert merged(sent.body, "index") == [("x", HALF)]


@steps
@pytest.mark.parametrize("name", ["", " ", "\ufeff"], ids=ascii)
async def test_a_call_with_an_id_begins_without_a_blank_name(name: str, step: int) -> None:
    """Vercel's SDK would skip it, and take what goes on with it for more of the one before."""
    more = chunk({"tool_calls": [entry(1, "b", name, "")]}) + chunk(
        {"tool_calls": [call(1, None, None, REST)]}
    )
    sent = await through([Judge()], BEGUN + more + END, step=step)
    assert merged(sent.body, "index") == [("", REST), ("x", HALF)]
    assert "name" not in entries(sent.body)[1]["function"]


@steps
@pytest.mark.parametrize("more", [{"index": None}, {}], ids=["null", "none"])
async def test_all_of_a_call_with_an_index_leaves_under_it(more: dict[str, Any], step: int) -> None:
    """JavaScript finds another call under null, and clients of which two calls have begun skip what has no index."""
    parts = [call(0, "a", "x", "{"), {"function": {"arguments": '"a":1'}, **more}, call(0, None, None, "}")]
    sent = await through(
        [Judge()], b"".join(chunk({"tool_calls": [each]}) for each in parts) + END, step=step
    )
    assert [each["index"] for each in entries(sent.body)] == [0, 0, 0]


async def test_what_is_not_tangled_leaves_as_it_came() -> None:
    gap = [(0, "a", "x", "{"), (2, "b", "y", "}"), (0, None, None, "}")]
    alone = [(None, "a", "x", "{"), (None, None, None, "}")]
    bare = [(None, "a", "x", "{}"), (None, "b", "y", "{}")]  # Mistral's, once
    for parts in (gap, alone, bare):
        came = b"".join(fragment(*part) for part in parts) + END
        assert (await through([Judge()], came)).body == came


@pytest.mark.parametrize("kind", ["function", None])
async def test_an_empty_payload_is_none(kind: str | None) -> None:
    entry = {
        "index": 0,
        "id": "a",
        "type": kind,
        "custom": {"input": "", "name": ""},
        "function": {"name": "x", "arguments": "{}"},
    }
    came = chunk({"tool_calls": [entry]}) + END
    sent = await through([Judge(seen := Seen())], came)
    assert sent.body == came
    assert (seen.calls, seen.kinds) == ([("x", "{}")], ["function"])


@steps
@pytest.mark.parametrize("index", [1.0, True, "1"])
async def test_an_index_that_clients_take_for_another_is_that_one(index: Any, step: int) -> None:
    parts = [(1, "a", "sh", HALF), (2, "b", "q", '{"q":"'), (index, None, None, REST), (2, None, None, '"}')]
    seen = Seen()
    sent = await through([Judge(seen)], b"".join(fragment(*part) for part in parts) + END, step=step)
    assert ("sh", HALF + REST) in seen.calls
    assert [one.arguments for one in sent.left.tool_calls] == ['{"q":""}']
    allowed = b"".join(fragment(*part) for part in ((1, "a", "sh", "{"), (index, None, None, "}"))) + END
    sent = await through([Judge()], allowed, step=step)
    assert [type(entry["index"]) for entry in entries(sent.body)] == [int, int]


@steps
@pytest.mark.parametrize("index", [1.0, True, "1"])
async def test_a_choice_that_clients_take_for_another_is_that_one(index: Any, step: int) -> None:
    came = (
        chunk({"content": "SEC"}, index=1)
        + chunk({"content": "RET"}, index=index)
        + chunk({}, index=1, finish="stop")
        + DONE
    )
    sent = await through([Redact()], came, step=step, n=2)
    assert sent.left.choices == {1: "[gone]"}
    assert {
        type(one["index"]) for data in sent.chunks if isinstance(data, dict) for one in data["choices"]
    } == {int}


async def test_the_index_of_a_choice_of_a_body_is_a_number() -> None:
    sent = await through([Judge()], body({"content": "x"}, index="1"), stream=False)
    assert json.loads(sent.body)["choices"][0]["index"] == 1


@steps
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["function", "custom", None, "browser"])
async def test_a_second_payload_does_not_hide_the_first(kind: str | None, stream: bool, step: int) -> None:
    entry = {"index": 0, "id": "a", "type": kind, "custom": {"name": "ok", "input": ""},
             "function": {"name": "bash", "arguments": "{}"}, "browser": {"go": "bash"}}  # fmt: skip
    came = chunk({"tool_calls": [entry]}) + END if stream else body({"content": None, "tool_calls": [entry]})
    sent = await through([Judge(seen := Seen())], came, stream=stream, step=step)
    left = [(one.name, one.arguments) for one in sent.left.tool_calls]
    assert "bash" not in [name for name, _ in left]
    assert len(seen.calls) == 1
    assert b'"arguments"' not in sent.body


async def test_a_payload_of_another_kind_cannot_join_a_call_later() -> None:
    came = chunk(
        {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "ok", "input": ""}}]}
    )
    came += chunk(
        {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "bash", "arguments": "{}"}}]}
    )
    sent = await through([Judge()], came + END)
    assert b"bash" not in sent.body
    sent = await through(Guard([Judge()], unknown="block"), came + END)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


# -- what is a call, what is a text --------------------------------------------------------------------------------------


@steps
@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [call(None, "x", "bash", "{}")]},
        {"content": None, "function_call": {"name": "bash", "arguments": "{}"}},
    ],
)
async def test_a_message_in_a_stream_has_calls(message: Any, step: int) -> None:
    came = (
        b"data: "
        + json.dumps({"choices": [{"index": 0, "delta": {}, "message": message}]}).encode()
        + b"\n\n"
    )
    sent = await through([Judge()], came + END, step=step)
    assert b"bash" not in sent.body
    assert sent.left.text == "NO"


async def test_a_message_in_a_stream_has_texts() -> None:
    message = {"content": "a", "reasoning": "b", "refusal": "c"}
    data = {"choices": [{"index": 0, "delta": {}, "message": message}]}
    seen = Seen()
    await through([Texts(seen)], b"data: " + json.dumps(data).encode() + b"\n\n" + DONE)
    assert sorted(seen.texts) == [("content", "a"), ("reasoning", "b"), ("refusal", "c")]


UNKNOWN = {"index": 0, "id": "x", "type": "browser", "browser": {"action": "go"}}


@steps
@pytest.mark.parametrize("stream", [True, False])
async def test_a_payload_that_nobody_knows_is_a_call(stream: bool, step: int) -> None:
    came = (
        chunk({"tool_calls": [UNKNOWN]}) + END if stream else body({"content": None, "tool_calls": [UNKNOWN]})
    )
    seen = Seen()
    assert (await through([Judge(seen)], came, stream=stream, step=step)).body == came
    assert (seen.calls, seen.kinds) == ([("browser", '{"browser":{"action":"go"}}')], ["unknown"])
    sent = await through([NoCalls()], came, stream=stream, step=step)
    assert b"browser" not in sent.body
    sent = await through(
        [Rewrites('{"browser":{"action":"stay"},"why":"so"}')], came, stream=stream, step=step
    )
    assert b"stay" in sent.body
    assert b"why" in sent.body
    assert b"go" not in sent.body


@pytest.mark.parametrize("arguments", ["no json", "[]", '{"id":"y"}', '{"function":{}}'])
async def test_a_call_that_nobody_knows_is_not_made_another_one(arguments: str) -> None:
    sent = await through([Rewrites(arguments)], chunk({"tool_calls": [UNKNOWN]}) + END)
    assert b"browser" not in sent.body
    assert sent.outcome.status is not OutcomeStatus.SUCCESS


@pytest.mark.parametrize("bytes_", ["MARK !", ["MARK !"], [{"a": "MARK !"}], {"a": "MARK !"}])
async def test_bytes_of_tokens_are_text_unless_they_are_numbers(bytes_: Any) -> None:
    token = {"token": "ok", "logprob": 0, "bytes": bytes_}
    one = {"index": 0, "delta": {"content": "ok"}, "logprobs": {"content": [token]}}
    sent = await through([NoMark()], b"data: " + json.dumps({"choices": [one]}).encode() + b"\n\n" + DONE)
    assert b"MARK" not in sent.body


@pytest.mark.parametrize("index", ["MARK !", ["MARK !"], {"a": "MARK !"}])
async def test_an_index_that_is_a_text_is_one(index: Any) -> None:
    sent = await through([NoMark()], fragment(index, "c", "n", "{}") + END)
    assert b"MARK" not in sent.body


@steps
async def test_content_as_a_string_and_in_parts_is_one_text(step: int) -> None:
    parts = [{"type": "text", "text": "RE"}, {"type": "text", "text": "T"}]
    sent = await through([Redact()], chunk({"content": "SEC"}) + chunk({"content": parts}) + END, step=step)
    assert b"[gone]" in sent.body
    assert b"SEC" not in sent.body
    parts.insert(0, {"type": "text", "text": "SEC"})
    sent = await through([Redact()], body({"content": parts}, finish="stop"), stream=False, step=step)
    assert b"[gone]" in sent.body


# -- what no format says -------------------------------------------------------------------------------------------------

CHOICE = {"index": 0, "delta": {"content": "hi"}}
STRANGE: dict[str, Any] = {
    "choices as an object": {"choices": {"0": CHOICE}},
    "a choice that is a list": {"choices": [[CHOICE]]},
    "a choice without a number": {"choices": [{**CHOICE, "index": "x"}]},
    "a choice too many": {"choices": [{**CHOICE, "index": MAX_CHOICES}]},
    "a delta that is a list": {"choices": [{"index": 0, "delta": [1]}]},
    "a message that is a string": {"choices": [{"index": 0, "message": "hi"}]},
    "content that is an object": {"choices": [{"index": 0, "delta": {"content": {"0": "x"}}}]},
    "calls as an object": {"choices": [{"index": 0, "delta": {"tool_calls": {"0": UNKNOWN}}}]},
    "a call that is a string": {"choices": [{"index": 0, "delta": {"tool_calls": ["bash"]}}]},
    "a function_call that is a string": {"choices": [{"index": 0, "delta": {"function_call": "bash"}}]},
    "calls of a message as an object": {"choices": [{"index": 0, "message": {"tool_calls": {"0": UNKNOWN}}}]},
}


@steps
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
async def test_what_has_another_shape_is_unknown(data: Any, stream: bool, step: int) -> None:
    raw = json.dumps(data).encode()
    came = b"data: " + raw + b"\n\n" + DONE if stream else raw
    sent = await through(Guard([Judge()], unknown="block"), came, stream=stream, step=step, n=2)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


PLAIN = {"index": 0, "id": "x", "type": "function"}
LOOSE: dict[str, Any] = {
    "the name of a call": {"tool_calls": [{**PLAIN, "function": {"name": ["hidden"], "arguments": "{}"}}]},
    "the name of a function_call": {"function_call": {"name": ["hidden"], "arguments": "{}"}},
    "the text of a part": {"content": [{"type": "text", "text": ["hidden"]}]},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("message", LOOSE.values(), ids=LOOSE)
async def test_a_list_where_a_string_should_stand_does_not_leave(message: Any, stream: bool) -> None:
    """JavaScript takes ["x"] for "x"."""
    came = chunk(message) + END if stream else body(message, finish="stop")
    sent = await through([Judge()], came, stream=stream)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert b"hidden" not in sent.body


@pytest.mark.parametrize("stream", [True, False])
async def test_an_ordinary_answer_is_not_unknown(stream: bool) -> None:
    message = {
        "role": "assistant",
        "content": "x",
        "tool_calls": None,
        "function_call": None,
        "refusal": None,
    }
    came = chunk(message) + fragment(0, "a", "x", "{}") + END if stream else body(message, finish="stop")
    sent = await through(Guard([Judge()], unknown="block"), came, stream=stream)
    assert sent.body == came


JUNK: tuple[Any, ...] = (
    5,
    True,
    "junk",
    1.5,
    None,
    [],
    {},
    ["junk"],
    {"a": {"b": "c"}},
    [[]],
    [None],
    [{"type": "text"}],
)
CALL = {"index": 0, "id": "x", "type": "function", "function": {"name": "b", "arguments": "{}"}}


def _is_behind(first: int, block: WireBlock) -> bool:
    return block.index >= first


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("stream", [True, False])
def test_no_junk_brings_reader_or_writer_down(stream: bool, junk: Any) -> None:
    messages: list[Any] = [junk, {"content": junk, "tool_calls": [CALL]}, {"tool_calls": [junk, CALL]}, {"tool_calls": junk},
                           {"function_call": junk, "audio": junk, "role": junk, "x": junk}]  # fmt: skip
    messages += [
        {"tool_calls": [{**CALL, key: junk}, CALL]}
        for key in ("index", "id", "type", "function", "custom", "x")
    ]
    messages += [
        {"tool_calls": [{**CALL, "function": {key: junk, "name": "b"}}]} for key in ("name", "arguments", "x")
    ]
    choices = [{"index": 0, place: message} for place in ("delta", "message") for message in messages]
    choices += [{"index": junk, "delta": messages[1]}, {"index": 0, "delta": junk, "message": messages[1]}]
    choices += [
        {"index": 0, key: junk, "delta": messages[1], "message": messages[1]}
        for key in ("finish_reason", "logprobs", "x")
    ]
    for data in [{"choices": [junk, one]} for one in choices] + [
        {"choices": junk},
        {"error": junk, "usage": junk, "id": junk},
    ]:
        raw = json.dumps(data).encode()
        one = Chunk("data", canonical(raw), data) if stream else Chunk("body", raw, data)
        for first in (0, 1, 9):
            read = read_all(CHAT, [one], stream=stream)
            for block in blocks_of(read):
                block.policed = block.kind == "call"
            remove_calls(read, only=partial(_is_behind, first))
            left = write_all(CHAT, read, stream=stream)
            for each in chunks_of(left, stream=stream):
                assert each.kind != "unknown"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("error", "failed"),
    [({}, False), ("", False), ([], False), (0, False), ("x", True), ({"message": "x"}, True), (True, True)],
)
async def test_an_error_that_is_empty_is_none(error: Any, failed: bool, stream: bool) -> None:
    came = chunk({"content": "a"}, error=error) + chunk({}, finish="stop") + DONE
    if not stream:
        came = json.dumps({**json.loads(body({"content": "a"}, "stop")), "error": error}).encode()
    sent: Sent = await through([Judge()], came, stream=stream)
    assert (sent.outcome.status is OutcomeStatus.UPSTREAM_ERROR) is failed


# -- how much there may be -----------------------------------------------------------------------------------------------


def test_choices_without_end_are_one_choice() -> None:
    reader, writer = CHAT.reader(stream=True), CHAT.writer(stream=True, model="m", call_id="c")
    left = b""
    for begin in range(0, 4000, 400):
        data = {"choices": [{"index": at, "delta": {"content": "x"}} for at in range(begin, begin + 400)]}
        one = Chunk("data", canonical(json.dumps(data).encode()), data)
        left += b"".join(raw for raw, _ in writer.write([ReadChunk(one, reader.read(one), begin)]))
        assert reader.unknown
    assert len(reader.close()) == MAX_CHOICES + 1
    seen = {choice["index"] for each in chunks_of(left, stream=True) for choice in each.data["choices"]}
    assert seen == set(range(MAX_CHOICES + 1))


def _says_nothing(at: int) -> dict[str, Any]:
    return {"delta": {"content": "x"}, "message": {"content": ""}}


def _calls(at: int) -> dict[str, Any]:
    return {"delta": {"tool_calls": [{"id": f"c{at}", "function": {"name": "x"}}]}}


@pytest.mark.parametrize("made", [_says_nothing, _calls])
def test_many_thousands_of_chunks_which_took_minutes_are_read(made: Callable[[int], dict[str, Any]]) -> None:
    reader = CHAT.reader(stream=True)
    for at in range(60_000):
        assert reader.read(Chunk("data", b"", {"choices": [{"index": 0, **made(at)}]}))


def test_members_that_say_nothing_are_not_remembered_without_end() -> None:
    reader: Any = CHAT.reader(stream=True)
    for at in range(1000):
        reader.read(Chunk("data", b"", {f"k{at}": at, "choices": []}))
    assert len(reader._last) <= 64


def test_new_arguments_that_are_not_json_do_not_leave_where_json_stood() -> None:
    entry = {"index": 0, "id": "a", "function": {"name": "x", "arguments": {"a": 1}}}
    read = read_all(CHAT, chunks_of(chunk({"tool_calls": [entry]}) + END, stream=True), stream=True)
    for each in read:
        for piece in each.pieces:
            if piece.kind is PieceKind.DELTA and piece.block is not None:
                piece.out, piece.block.changed = '{"a":', True
    with pytest.raises(IllegalOutput):
        write_all(CHAT, read, stream=True)


# -- what is a list in one language only ---------------------------------------------------------------------------------


def as_object(data: Any, *keys: Any) -> Any:
    """`data` with an object in the place of the list that stands there, which JavaScript reads as if it were one."""
    if not keys:
        return {str(at): each for at, each in enumerate(data)}
    inner = {keys[0]: as_object(data[keys[0]], *keys[1:])}
    return {**data, **inner} if isinstance(data, dict) else [inner[0], *data[1:]]


def listed(data: Any) -> Any:
    """As JavaScript finds elements."""
    if isinstance(data, dict) and data.keys() and all(key.isdecimal() for key in data):
        data = list(data.values())
    if isinstance(data, dict):
        return {key: listed(each) for key, each in data.items()}
    return [listed(each) for each in data] if isinstance(data, list) else data


@pytest.mark.parametrize("keys", [("choices",), ("choices", 0, "message", "tool_calls")], ids=len)
async def test_a_call_in_a_list_that_is_an_object_does_not_leave_unjudged(keys: tuple[Any, ...]) -> None:
    entry = {"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
    data = as_object(json.loads(body({"tool_calls": [entry]}, "tool_calls")), *keys)
    assert listed(data)["choices"][0]["message"]["tool_calls"] == [entry]
    sent = await through([Judge()], json.dumps(data).encode(), stream=False)
    assert b"bash" not in sent.body and b'"choices"' in sent.body


@steps
@pytest.mark.parametrize("keys", [("choices",), ("choices", 0, "delta", "tool_calls")], ids=len)
async def test_nor_does_it_in_a_stream(keys: tuple[Any, ...], step: int) -> None:
    data = json.loads(chunk({"tool_calls": [call(0, "a", "bash", "{}")]}).removeprefix(b"data: "))
    said = canonical(json.dumps(as_object(data, *keys)).encode())
    sent = await through([Judge()], chunk({"content": "x"}) + said + END, step=step)
    assert b"bash" not in sent.body and sent.left.text == "x"


async def test_text_in_choices_that_are_an_object_does_not_leave() -> None:
    """JavaScript would read "MARK !"."""
    data = as_object(json.loads(chunk({"content": " !"}).removeprefix(b"data: ")), "choices")
    sent = await through([NoMark()], chunk({"content": "MARK"}) + canonical(json.dumps(data).encode()) + END)
    assert b"MARK" in sent.body and b" !" not in sent.body


def _apart(**more: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {"tool_calls": [1]}, **more}


@steps
@pytest.mark.parametrize(
    "body",
    {
        "behind the end": chunk({"content": "hi"}) + DONE + chunk(choices=[_apart()]),
        "beside an error": chunk(choices=[_apart()], error={"message": "down"}) + DONE,
        "twice in a chunk": chunk(choices=[{"index": 0, "delta": {"content": "hi"}}, _apart()]) + DONE,
        "behind a message": chunk(choices=[{"index": 0, "message": {"content": "hi"}}])
        + chunk(choices=[_apart()])
        + DONE,
    }.items(),
    ids=lambda case: case[0],
)
async def test_entries_that_are_no_objects_where_nothing_leaves(body: Any, step: int) -> None:
    sent = await through([Judge()], body[1], step=step)
    assert b"[1]" not in sent.body
    assert sent.outcome.status in (OutcomeStatus.SUCCESS, OutcomeStatus.UPSTREAM_ERROR)


BROKEN: dict[str, dict[str, Any]] = {
    "a text that is a number": {"content": 7},
    "calls that are a text": {"tool_calls": "ls"},
    "a call that is a number": {"tool_calls": [7]},
    "a legacy call that is a number": {"function_call": 7},
}
BEHIND: dict[str, dict[str, Any]] = {
    "a text": {"refusal": "hunter2"},
    "a call": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "hunter2"}}]},
    "what nobody knows": {"x_new": "hunter2"},
}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({**broken, **behind}, id=f"{what}, then {rest}")
        for what, broken in BROKEN.items()
        for rest, behind in BEHIND.items()
        if broken.keys().isdisjoint(behind)
    ],
)
@pytest.mark.parametrize("place", ["delta", "message"])
def test_what_stands_behind_something_that_does_not_fit_is_read(place: str, said: dict[str, Any]) -> None:
    data = {"choices": [{"index": 0, place: said}]}
    reader = CHAT.reader(stream=True)
    pieces = reader.read(Chunk("data", b"", data))
    assert reader.unknown
    assert any("hunter2" in piece.text for piece in pieces)
