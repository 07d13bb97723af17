"""openai.responses against an upstream that says one thing to the guard and another to clients."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthien_guard import Block, ContentChunk, Guard, Policy, ToolCall, hookimpl
from luthien_guard.wire.format import ReadChunk
from luthien_guard.wire.responses import RESPONSES
from tests.cases.chat_wire import Sent, through
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, write_all
from tests.wire.responses_events import call_item, message, message_item, parsed, response, stream, taken

pytestmark = pytest.mark.anyio
STEPS = pytest.mark.parametrize("step", [0, 1])
PLACE = {"output_index": 0, "item_id": "msg_0"}


class Redacts(Policy):
    lookahead = 16

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        if "SECRET" not in chunk.text or chunk.channel != "content":
            return None
        return ContentChunk(chunk.text.replace("SECRET", "[gone]"), chunk.channel, chunk.choice, chunk.index)


class Judges(Policy):
    """Forbids `rm -rf` and the tool `bash`; keeps what it saw."""

    def __init__(self) -> None:
        self._saw: list[tuple[str, str]] = []

    @property
    def saw(self) -> list[tuple[str, str]]:
        return self._saw

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        self._saw.append((call.name, call.arguments))
        bad = call.name == "bash" or "rm -rf" in call.arguments
        return Block("bash", "no") if bad else None


async def answered(policies: list[Policy] | Guard, *events: Any, step: int = 0) -> Sent:
    body = stream(response("created", []), *events, response("completed", []))
    return await through(policies, body, format="openai.responses", step=step)


def text(*, at: Any, delta: str, kind: str = "output_text") -> dict[str, Any]:
    index = {} if at == "missing" else {"summary_index" if "summary" in kind else "content_index": at}
    return {"type": f"response.{kind}.delta", **PLACE, **index, "delta": delta}


def added(arguments: str, name: str = "sh") -> dict[str, Any]:
    item = call_item(0, arguments, name=name, status="in_progress")
    return {"type": "response.output_item.added", "output_index": 0, "item": item}


def fragment(delta: str) -> dict[str, Any]:
    place = {"output_index": 0, "item_id": "fc_0"}
    return {"type": "response.function_call_arguments.delta", **place, "delta": delta}


def done(arguments: str, **more: Any) -> dict[str, Any]:
    place = {"output_index": 0, "item_id": "fc_0"}
    return {"type": "response.function_call_arguments.done", **place, "arguments": arguments, **more}


def merged(body: bytes) -> list[str]:
    """The arguments for a client that sets them where an item is announced or done, and appends deltas."""
    found: dict[Any, str] = {}
    every: list[str] = []
    for event in parsed(body):
        at, kind = event.get("output_index"), event["type"]
        if kind == "response.output_item.added" and "arguments" in event["item"]:
            found[at] = event["item"]["arguments"]
        elif kind.endswith("arguments.delta"):
            found[at] = found.get(at, "") + event["delta"]
        elif kind.endswith("arguments.done"):
            found[at] = event["arguments"]
        every += found.values()
    return every


# -- parts -------------------------------------------------------------------------------------------------------------

ODD = [False, True, -1, 0.0, "0", "00", None, "missing", "of", {"0": 0}, 2**53, 0.5]


@STEPS
@pytest.mark.parametrize("at", ODD, ids=repr)
async def test_a_part_has_one_number_for_guard_and_clients(at: Any, step: int) -> None:
    begin = message(0)[:2]
    sent = await answered([Redacts()], *begin, text(at=0, delta="SEC"), text(at=at, delta="RET"), step=step)
    deltas = [event for event in parsed(sent.body) if event["type"].endswith("text.delta")]
    assert {type(each["content_index"]) for each in deltas} == {int}
    assert "".join(each["delta"] for each in deltas if each["content_index"] == 0) == "[gone]"


@pytest.mark.parametrize("at", ODD, ids=repr)
def test_a_part_of_a_summary_has_one_number_too(at: Any) -> None:
    kind = "reasoning_summary_text"
    found = taken(text(at=0, delta="SEC", kind=kind), text(at=at, delta="RET", kind=kind))
    assert [block.text for block in blocks_of(found)] == ["SECRET"]
    out = parsed(write_all(RESPONSES, found, stream=True))
    assert [each["summary_index"] for each in out] == [0, 0] and type(out[1]["summary_index"]) is int


def test_parts_that_no_event_numbers_leave_as_they_came() -> None:
    body = stream(text(at="missing", delta="a"), text(at="missing", delta="b"))
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    assert write_all(RESPONSES, found, stream=True) == body
    assert [block.text for block in blocks_of(found)] == ["ab"]


@STEPS
async def test_the_index_of_the_other_kind_of_part_hides_nothing(step: int) -> None:
    begin, part = message(0)[:2]
    part = {**part, "summary_index": 5, "part": {**part["part"], "text": "SEC"}}
    sent = await answered([Redacts()], begin, part, text(at=0, delta="RET"), step=step)
    left = parsed(sent.body)
    assert left[2]["part"]["text"] + left[3]["delta"] == "[gone]"


@STEPS
async def test_a_part_that_begins_anew_with_other_text_is_another_part(step: int) -> None:
    begin, part = message(0)[:2]
    anew = {**part, "part": {**part["part"], "text": "SEC"}}
    sent = await answered(
        [Redacts()], begin, part, text(at=0, delta="x"), anew, text(at=0, delta="RET"), step=step
    )
    shown: dict[int, str] = {}
    for event in parsed(sent.body):
        if event["type"] == "response.content_part.added":
            shown[event["content_index"]] = event["part"]["text"]
        elif event["type"] == "response.output_text.delta":
            shown[event["content_index"]] += event["delta"]
    assert shown == {0: "x", 1: "[gone]"}


@STEPS
async def test_a_message_that_is_announced_anew_with_text_is_another_item(step: int) -> None:
    begin, part = message(0)[:2]
    anew = {**begin, "item": {**message_item(0, "SEC"), "status": "in_progress"}}
    sent = await answered(
        [Redacts()], begin, part, text(at=0, delta="x"), anew, text(at=0, delta="RET"), step=step
    )
    deltas = [event for event in parsed(sent.body) if event["type"].endswith("text.delta")]
    assert next(event["output_index"] for event in deltas) == 0
    assert all("RET" not in event["delta"] for event in deltas)


# -- calls -------------------------------------------------------------------------------------------------------------


@STEPS
@pytest.mark.parametrize(
    "events",
    [
        [fragment('{"a":1,'), added('{"cmd":"rm -r'), fragment('f /"}')],
        [added(""), fragment('{"a":"'), added('{"cmd":"rm -r'), fragment('f /"}')],
        [added('{"a":"'), added('{"cmd":"rm -r'), fragment('f /"}')],
        [added(""), fragment('{"a":"'), added(""), fragment('{"cmd":"rm -r'), fragment('f /"}')],
        [added(""), done('{"a":1}'), added('{"cmd":"rm -r'), fragment('f /"}')],
    ],
)
async def test_a_call_that_is_announced_anew_is_judged_with_what_follows(
    events: list[Any], step: int
) -> None:
    judges = Judges()
    sent = await answered([judges], *events, step=step)
    assert ("sh", '{"cmd":"rm -rf /"}') in judges.saw
    assert not any("rm -rf" in arguments for arguments in merged(sent.body))
    # and where it is kept, it is there for clients as it was judged
    found = taken(*events)
    keep_calls(found)
    assert '{"cmd":"rm -rf /"}' in merged(write_all(RESPONSES, found, stream=True))


@STEPS
async def test_a_call_that_is_announced_anew_under_another_name_gets_the_fragments(step: int) -> None:
    judges = Judges()
    await answered(
        [judges], added("", "fine"), added("", "bash"), fragment('{"a":'), fragment("1}"), step=step
    )
    assert ("bash", '{"a":1}') in judges.saw


def test_a_call_that_is_announced_twice_in_the_same_words_is_one() -> None:
    body = stream(added(""), added(""), fragment('{"a":1}'), done('{"a":1}'))
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    assert [block.text for block in blocks_of(found)] == ['{"a":1}']
    keep_calls(found)
    assert write_all(RESPONSES, found, stream=True) == body


@STEPS
@pytest.mark.parametrize("first", [[], [fragment('{"cmd":"rm -rf /"}')], [fragment('{"a":1}')]])
async def test_what_the_end_of_the_arguments_says_is_what_is_judged(first: list[Any], step: int) -> None:
    judges = Judges()
    events = [added(""), *first, done('{"cmd":"rm -rf /"}'), fragment("}")]
    sent = await answered([judges], *events, step=step)
    assert ("sh", '{"cmd":"rm -rf /"}') in judges.saw and ("sh", "}") in judges.saw
    assert not any("rm -rf" in arguments for arguments in merged(sent.body))


@STEPS
async def test_the_name_at_the_end_of_the_arguments_counts(step: int) -> None:
    judges = Judges()
    sent = await answered([judges], done('{"a":1}', name="bash"), step=step)
    assert judges.saw == [("bash", '{"a":1}')] and b'\\"a' not in sent.body


@STEPS
async def test_another_name_at_the_end_of_the_arguments_is_another_call(step: int) -> None:
    judges = Judges()
    sent = await answered([judges], added(""), fragment('{"a":1}'), done('{"a":1}', name="bash"), step=step)
    assert judges.saw == [("bash", '{"a":1}'), ("sh", '{"a":1}')]
    assert b"bash" not in sent.body.replace(b"by bash", b"")


def test_a_call_that_its_end_names_first_keeps_name_and_id() -> None:
    found = taken(
        done("{}", name="tool_0"),
        {"type": "response.output_item.done", "output_index": 0, "item": call_item(0, "{}")},
    )
    assert [(block.name, block.id, block.text) for block in blocks_of(found)] == [("tool_0", "call_0", "{}")]


# -- lists that are none -----------------------------------------------------------------------------------------------

OBJECTS: list[Any] = [
    {"0": call_item(0, "{}")},
    "text",
    [{**message_item(0, ""), "content": {"0": {"type": "output_text", "text": "x"}}}],
]


@pytest.mark.parametrize("output", OBJECTS, ids=["object", "string", "content"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_list_that_is_none_is_unknown(output: Any, streamed: bool) -> None:
    event = response("completed", output)
    body = stream(response("created", []), event) if streamed else json.dumps(event["response"]).encode()
    guard = Guard([Judges()], unknown="block")
    sent = await through(guard, body, stream=streamed, format="openai.responses")
    assert sent.outcome.status.value == "blocked"


PART = {"type": "output_text", "text": "hidden"}
#: What JavaScript takes for the same as the list, or the string, that should stand there.
LOOSE: dict[str, Any] = {
    "output": {"0": call_item(0, "{}", name="hidden")},
    "content": [{**message_item(0, ""), "content": {"0": PART}}],
    "summary": [{"type": "reasoning", "id": "rs_0", "summary": {"0": {**PART, "type": "summary_text"}}}],
    "text": [{**message_item(0, ""), "content": [{**PART, "text": ["hidden"]}]}],
    "name": [call_item(0, "{}", name=["hidden"])],
    "type of an item": [call_item(0, "{}", type=["hidden"])],
    "type of a part": [{**message_item(0, ""), "content": [{**PART, "type": ["hidden"]}]}],
}


@pytest.mark.parametrize("output", LOOSE.values(), ids=LOOSE)
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_only_loose_readers_take_for_it_does_not_leave(output: Any, streamed: bool) -> None:
    event = response("completed", output)
    items = output if isinstance(output, list) else []
    added = [{"type": "response.output_item.added", "output_index": 0, "item": each} for each in items]
    done = [{**each, "type": "response.output_item.done"} for each in added]
    body = stream(response("created", []), *added, *done, event)
    sent = await through(
        [Judges()],
        body if streamed else json.dumps(event["response"]).encode(),
        stream=streamed,
        format="openai.responses",
    )
    last = parsed(sent.body)[-1]["response"] if streamed else json.loads(sent.body)
    assert isinstance(last["output"], list)
    assert '["hidden"]' not in sent.body.decode() and '{"0"' not in sent.body.decode()


async def test_a_part_of_a_loose_kind_does_not_leave_alone() -> None:
    place = {**PLACE, "content_index": 0}
    part = {"type": "response.content_part.added", **place, "part": {**PART, "text": ["hidden"]}}
    end = {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "{}"}
    sent = await answered([Judges()], *message(0)[:1], part, {**end, "name": ["hidden"]})
    assert b'["hidden"]' not in sent.body


async def test_an_unknown_item_keeps_a_member_that_is_a_list_in_others() -> None:
    item = {"type": "something_new", "id": "x", "content": {"0": "hidden"}}
    body = json.dumps(response("completed", [item])["response"]).encode()
    sent = await through([Judges()], body, stream=False, format="openai.responses")
    assert sent.body == body


# -- no more work, and no more memory, than the stream is long ---------------------------------------------------------


def again(count: int) -> list[Any]:
    """Items at places of their own, then as many that all say the same place."""
    item = {"type": "response.output_item.added", "item": {"type": "message"}}
    places = [*range(count, 2 * count), *[count] * count]
    return [{**item, "output_index": at} for at in places]


def others(count: int) -> list[Any]:
    """One call that says something else every time."""
    return [added(""), *(done(json.dumps({"a": at})) for at in range(count))]


def removed(count: int) -> list[Any]:
    item = call_item(0, "{}")
    return [
        {"type": "response.output_item.done", "output_index": at, "item": {**item, "id": f"fc_{at}"}}
        for at in range(count)
    ]


@pytest.mark.parametrize(("events", "remove"), [(again, False), (others, False), (removed, True)])
def test_thousands_of_events_which_took_minutes_are_read_and_written(events: Any, remove: bool) -> None:
    came = stream(*events(8000))
    found = read_all(RESPONSES, chunks_of(came, stream=True), stream=True)
    if remove:
        remove_calls(found, None)
    left = write_all(RESPONSES, found, stream=True, one_by_one=True)
    assert (b"fc_7999" in left) == (b"fc_7999" in came and not remove)


def test_what_a_response_says_anew_all_the_time_is_not_kept() -> None:
    reader = RESPONSES.reader(stream=True)
    frames = [
        chunk
        for at in range(300)
        for chunk in chunks_of(
            stream(response("in_progress", [], metadata={f"k{at}": f"{at} " * 2000})), stream=True
        )
    ]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    assert all(reader.read(chunk) for chunk in frames)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 100_000  # of two megabytes


def test_what_was_forgotten_is_judged_once_more() -> None:
    found: list[ReadChunk] = taken(*others(200), done('{"a": 0}'), done('{"a": 199}'))
    said = [block.text for block in blocks_of(found)]
    assert said.count('{"a": 0}') == 1 and said.count('{"a": 1}') == 1 and said.count('{"a": 199}') == 1
    found = taken(*others(200), done('{"a": 1}'))
    assert [block.text for block in blocks_of(found)].count('{"a": 1}') == 2


# -- what some clients skip --------------------------------------------------------------------------------------------


def piece_of(kind: str, delta: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": 0, "item_id": "fc_0", "delta": delta, **more}


KINDS = [
    ("function_call", "function_call_arguments", "custom_tool_call_input"),
    ("mcp_call", "mcp_call_arguments", "mcp_call.arguments"),
    ("mcp_call", "mcp_call.arguments", "mcp_call_arguments"),
    ("code_interpreter_call", "code_interpreter_call_code", "code_interpreter_call.code"),
    ("function_call", "function_call_arguments", "shell_call_command"),
    ("reasoning", "reasoning_text", "reasoning"),
    ("reasoning", "reasoning_summary_text", "reasoning_summary"),
]


def joined(body: bytes, key: str, kinds: set[str]) -> list[str]:
    """What a client that knows these kinds of deltas puts together by this key."""
    found: dict[Any, str] = {}
    for event in parsed(body):
        if event["type"].removeprefix("response.").removesuffix(".delta") in kinds and "delta" in event:
            found[event[key]] = found.get(event[key], "") + event["delta"]
    return list(found.values())


@pytest.mark.parametrize("first", [False, True], ids=["between", "before and between"])
@pytest.mark.parametrize(("item", "kind", "other"), KINDS)
def test_deltas_of_two_types_are_never_one_text(item: str, kind: str, other: str, first: bool) -> None:
    begin = {"id": "fc_0", "type": item, "name": "sh", "status": "in_progress"}
    found = taken(
        response("created", []),
        {"type": "response.output_item.added", "output_index": 0, "item": begin},
        *([piece_of(other, "blah")] if first else []),
        piece_of(kind, "rm -"),
        piece_of(other, "blah"),
        piece_of(kind, "rf /"),
        response("completed", []),
    )
    keep_calls(found)
    saw = [block.text for block in blocks_of(found)]
    body = write_all(RESPONSES, found, stream=True)
    for kinds in ({kind}, {other}, {kind, other}):
        for key in ("output_index", "item_id"):
            assert all(any(each in text for text in saw) for each in joined(body, key, kinds))


def drafts(count: int, *, same: bool) -> list[Any]:
    """A call that is spelled out in many commands, and then says the same ones or others."""
    item = {"id": "sh_0", "type": "shell_call", "status": "in_progress", "call_id": "c", "action": {}}
    spelled = [
        {
            "type": "response.shell_call_command.delta",
            "output_index": 0,
            "command_index": at,
            "delta": f"a{at} ",
        }
        for at in range(count)
    ]
    said = {"commands": [f"a{at} " if same else f"b{at} " for at in range(count)]}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *spelled,
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "action": said}},
        *(spelled if same else []),
    ]


def steps_of(work: Callable[[], object]) -> int:
    """How many Python functions are entered, or gone on with."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("same", [True, False])
def test_twice_as_many_commands_are_twice_the_work(same: bool) -> None:
    def steps(count: int) -> int:
        reader = RESPONSES.reader(stream=True)
        came = chunks_of(stream(*drafts(count, same=same)), stream=True)
        return steps_of(lambda: [reader.read(chunk) for chunk in came])

    assert steps(400) < 2.5 * steps(200)


def test_commands_that_the_call_does_not_say_are_seen_however_many_there_are() -> None:
    (block,) = blocks_of(taken(*drafts(300, same=False)))
    assert all(f"a{at} " in block.text for at in range(300))


# -- clients that append what is announced -----------------------------------------------------------------------------


def appended(events: list[Any]) -> list[str]:
    """Texts and arguments as the Python SDK puts them together: it appends items and parts, and then goes by their
    place in the list. It gives up where there is none."""
    output: list[dict[str, Any]] = []
    try:
        for event in events:
            kind = event["type"]
            if kind == "response.created":
                output = json.loads(json.dumps(event["response"]["output"]))
            elif kind == "response.output_item.added":
                output.append(json.loads(json.dumps(event["item"])))
            elif kind == "response.content_part.added":
                output[event["output_index"]].get("content", []).append(dict(event["part"]))
            elif kind == "response.output_text.delta":
                item = output[event["output_index"]]
                if item["type"] == "message":
                    item["content"][event["content_index"]]["text"] += event["delta"]
            elif kind == "response.function_call_arguments.delta":
                item = output[event["output_index"]]
                if item["type"] == "function_call":
                    item["arguments"] += event["delta"]
    except (IndexError, KeyError):
        pass
    return [
        each
        for item in output
        for each in [
            item.get("arguments"),
            *(part["text"] for part in item.get("content", []) if "text" in part),
        ]
        if each
    ]


places = st.integers(0, 2)
ids = st.sampled_from(["A", "B", "C"])
firsts = st.sampled_from(["", "word"])


def announced(index: int, id: str, text: str | None) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": id, "type": "message", "status": "in_progress", "role": "assistant"}
    content = [] if text is None else [part]
    return {"type": "response.output_item.added", "output_index": index, "item": {**item, "content": content}}


def call_announced(index: int, id: str, text: str) -> dict[str, Any]:
    item = {"id": id, "type": "function_call", "call_id": id, "name": "sh", "arguments": text}
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def part_announced(index: int, at: int, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    kind = "response.content_part.added"
    return {"type": kind, "output_index": index, "content_index": at, "part": part}


def bit(kind: str, index: int, at: int) -> dict[str, Any]:
    where = {} if "arguments" in kind else {"content_index": at}
    return {"type": f"response.{kind}.delta", "output_index": index, **where, "delta": "word"}


BITS = st.sampled_from(["output_text", "refusal", "function_call_arguments", "custom_tool_call_input"])
events = st.one_of(
    st.builds(announced, places, ids, st.sampled_from([None, "", "word"])),
    st.builds(call_announced, places, ids, firsts),
    st.builds(part_announced, places, places, firsts),
    st.builds(bit, BITS, places, places),
    st.builds(bit, st.just("output_text"), places, places),
)


def numbered(events: list[Any]) -> list[Any]:
    """No two words are the same."""
    return [json.loads(json.dumps(event).replace("word", f"<{at}>")) for at, event in enumerate(events)]


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=9), st.lists(st.just(announced(0, "Z", "word")), max_size=1))
def test_clients_that_append_put_together_what_policies_saw(middle: list[Any], early: list[Any]) -> None:
    came = numbered(middle)
    found = taken(response("created", [each["item"] for each in early]), *came)
    keep_calls(found)
    saw = [block.text for block in blocks_of(found)]
    left = parsed(write_all(RESPONSES, found, stream=True))
    assert all(any(each in text for text in saw) for each in appended(left))


def test_items_leave_in_the_order_in_which_they_are_announced() -> None:
    first, second = message(1, "SEC"), message(0, "RET")
    found = taken(response("created", []), *first[:3], *second[:3])
    left = parsed(write_all(RESPONSES, found, stream=True))
    assert [event["output_index"] for event in left[1:]] == [0, 0, 0, 1, 1, 1]


def test_an_item_that_nobody_announced_is_announced_where_it_takes_a_place() -> None:
    strange = {"type": "response.custom_tool_call_input.delta", "output_index": 0, "delta": "x"}
    found = taken(response("created", []), strange, *message(1, "SEC"), response("completed", []))
    keep_calls(found)
    left = parsed(write_all(RESPONSES, found, stream=True))
    kinds = [(event["type"].removeprefix("response."), event.get("output_index")) for event in left]
    assert kinds[2:5] == [("output_item.added", 0), ("output_item.done", 0), ("output_item.added", 1)]
    assert [event["sequence_number"] for event in left] == list(range(len(left)))


def test_items_without_a_response_that_begins_leave_as_they_came() -> None:
    body = stream(*message(3, "a"), *message(1, "b"))
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    assert write_all(RESPONSES, found, stream=True) == body


def test_parts_in_another_order_than_their_numbers_are_not_of_one_item() -> None:
    begin, part, delta = message(0, "RET")[:3]
    swapped = {**part, "content_index": 1, "part": {**part["part"], "text": "SEC"}}
    left = parsed(write_all(RESPONSES, taken(response("created", []), begin, swapped, delta), stream=True))
    assert [event["output_index"] for event in left[2:5]] == [0, 0, 1]


def test_a_part_with_an_odd_number_that_is_the_only_one_leaves_as_it_came() -> None:
    events = [
        {**each, "content_index": 1} if "content_index" in each else each for each in message(0, "a", "b")
    ]
    body = stream(response("created", []), *events, response("completed", []))
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    assert write_all(RESPONSES, found, stream=True) == body


# -- arguments that are spelled out ------------------------------------------------------------------------------------


def shell(commands: list[str], *spelled: dict[str, Any]) -> list[Any]:
    """A shell call, and what is spelled out of it before it is done."""
    item = {"id": "sh_0", "type": "shell_call", "status": "in_progress", "call_id": "c", "action": {}}
    place = {"item_id": "sh_0", "output_index": 0, "command_index": 0}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *({"type": f"response.shell_call_command.{'delta' if 'delta' in each else 'done'}", **place, **each}
          for each in spelled),
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "action": {"commands": commands}}},
    ]  # fmt: skip


@pytest.mark.parametrize("said", [{"delta": "rm -rf"}, {"command": "rm -rf"}], ids=["delta", "done"])
async def test_arguments_stay_json_beside_what_was_spelled_out_and_is_no_part_of_them(said: Any) -> None:
    judges = Judges()
    sent = await answered([judges], *shell(["ls"], said))
    ((_, arguments),) = judges.saw
    assert json.loads(arguments) == {"commands": ["ls"], "spelled_out": ["rm -rf"]}
    assert b"rm -rf" not in sent.body


async def test_what_was_spelled_out_besides_is_no_member_of_changed_arguments() -> None:
    class Adds(Policy):
        @hookimpl
        def on_tool_call_completed(self, call: ToolCall) -> ToolCall:
            return call.replace(arguments=json.dumps({**call.parsed, "more": 1}))

    sent = await answered([Adds()], *shell(["ls"], {"delta": "pwd"}))
    assert b"pwd" not in sent.body
    (done,) = [each["item"] for each in parsed(sent.body) if each["type"] == "response.output_item.done"]
    assert done["action"] == {"commands": ["ls"], "more": 1}


async def test_fragments_after_an_object_are_another_calls() -> None:
    judges = Judges()
    begun = added("", "sh")
    begun["item"]["arguments"] = {"x": "y"}
    await answered([judges], begun, fragment('{"cmd":"ls"}'), done('{"cmd":"ls"}', name="sh"))
    assert '{"cmd":"ls"}' in [arguments for _, arguments in judges.saw]
    assert all(json.loads(arguments) for _, arguments in judges.saw)


@pytest.mark.parametrize("strange", [5, 1.5, True, ["a"], {}], ids=str)
async def test_what_is_no_text_is_appended_to_none(strange: Any) -> None:
    """JavaScript appends the number 5 to a text, and Python raises."""
    place = {"output_index": 0, "item_id": "msg_0", "content_index": 0}
    events = message(0, "a", "b")
    events.insert(3, {"type": "response.output_text.delta", **place, "delta": strange, "logprobs": []})
    sent = await answered([Judges()], *events)
    assert [each["delta"] for each in parsed(sent.body) if each["type"].endswith("text.delta")] == [
        "a",
        "",
        "b",
    ]


# -- what only some clients read ---------------------------------------------------------------------------------------


RUN = {
    "index": 0,
    "id": "c",
    "type": "function",
    "function": {"name": "bash", "arguments": '{"cmd":"rm -rf"}'},
}


@STEPS
@pytest.mark.parametrize(
    "event",
    [
        {"object": "chat.completion.chunk"},
        {},
        {"type": "response.output_text.delta", **PLACE, "content_index": 0, "delta": "x"},
    ],
    ids=["an object", "nothing", "a delta"],
)
async def test_no_event_is_a_chunk_of_a_chat_completion(event: dict[str, Any], step: int) -> None:
    """A bridge to chat completions would run its calls."""
    choices = [{"index": 0, "delta": {"tool_calls": [RUN]}, "finish_reason": None}]
    chunk = f"data: {json.dumps({**event, 'choices': choices})}\n\n".encode()
    body = stream(response("created", [])) + chunk + stream(response("completed", []))
    sent = await through([Judges()], body, format="openai.responses", step=step)
    assert all({"choices", "object"}.isdisjoint(each) for each in parsed(sent.body))


async def test_an_event_s_type_that_is_a_list_does_not_leave() -> None:
    """Neither for who compares it loosely nor for who looks it up in a table of types."""
    item = call_item(0, '{"cmd":"rm -rf"}', name="bash")
    called = {"type": ["response.output_item.done"], "output_index": 0, "item": item}
    odd = f"data: {json.dumps(called)}\n\n".encode()
    body = stream(response("created", [])) + odd + stream(response("completed", []))
    sent = await through([Judges()], body, format="openai.responses")
    assert sent.outcome.status.value == "success"
    assert b'["response.output_item.done"]' not in sent.body


RM = call_item(0, '{"cmd":"rm -rf"}', name="bash")


@pytest.mark.parametrize(
    "event",
    [
        {"id": "resp_0", "object": "response", "output": [RM]},
        {"type": "odd", "response": {"id": "resp_0", "object": "response", "output": [RM]}},
        {"type": "odd", "output_index": 0, "item": RM},
        {"output_index": 0, "item": RM},
    ],
    ids=["a whole answer", "a whole answer within", "an item", "an item without a type"],
)
async def test_no_event_that_nobody_knows_holds_a_call(event: dict[str, Any]) -> None:
    odd = f"data: {json.dumps(event)}\n\n".encode()
    body = stream(response("created", [])) + odd + stream(response("completed", []))
    sent = await through([Judges()], body, format="openai.responses")
    assert sent.outcome.status.value == "success"
    assert b"rm -rf" not in sent.body


async def test_an_event_that_announces_a_call_has_no_arguments_besides() -> None:
    """A bridge to chat completions takes them for the call's, and appends the deltas."""
    sent = await answered([Judges()], {**added(""), "arguments": "rm -rf"}, fragment("{}"), done("{}"))
    assert all("arguments" not in each for each in parsed(sent.body)[:-2] if "item" in each)
    assert b"rm -rf" not in sent.body


@STEPS
@pytest.mark.parametrize("missing", ["output_index", "item_id"])
async def test_events_that_do_not_say_where_they_belong_are_made_to(missing: str, step: int) -> None:
    """Without an index some clients append to the first item; without an id some skip the event."""
    events = [*message(0, "a", "b"), *message(1, "c", "d")]
    lacking = [
        {key: value for key, value in event.items() if key != missing} if "delta" in event else event
        for event in events
    ]
    sent = await answered([Judges()], *lacking, step=step)
    assert parsed(sent.body)[1:-1] == [
        {**event, "sequence_number": at} for at, event in enumerate(events, start=1)
    ]


@STEPS
@pytest.mark.parametrize(
    ("member", "value"),
    [("summary_index", "x"), ("summary_index", 1.5), ("summary_index", 2**70), ("call_id", 5), ("logprobs", 5), ("logprobs", [5])],
    ids=repr,
)  # fmt: skip
async def test_no_delta_has_a_member_for_which_some_clients_skip_it(
    member: str, value: Any, step: int
) -> None:
    events = message(0, "a", "b", "c")
    events[3] = {**events[3], member: value}
    sent = await answered([Judges()], *events, step=step)
    deltas = [each for each in parsed(sent.body) if each["type"] == "response.output_text.delta"]
    assert [each["delta"] for each in deltas] == ["a", "b", "c"]
    assert deltas[1].get(member, []) == []


@pytest.mark.parametrize("member", ["delta", "content_index"])
async def test_no_item_has_a_member_besides_for_which_some_clients_skip_it(member: str) -> None:
    events = message(0, "a")
    events[-1] = {**events[-1], member: {"a": "b"}}
    sent = await answered([Judges()], *events)
    assert all(member not in each for each in parsed(sent.body) if "item" in each)
