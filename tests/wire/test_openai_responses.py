"""openai.responses, the cases that no recording has: what policies see, what of it leaves, and that nothing raises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthien_guard.errors import IllegalOutput, MalformedBody
from luthien_guard.events import Chunk
from luthien_guard.testing.reading import read
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk
from luthien_guard.wire.responses import RESPONSES
from luthien_guard.wire.responses.splice import spliced
from tests.official_sdks import reads
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, rewrite, write_all
from tests.wire.responses_events import (
    call,
    call_item,
    merged,
    message,
    message_item,
    parsed,
    response,
    stream,
    taken,
)

MARK = "the ✗ marker"


def written(found: list[ReadChunk], *, one_by_one: bool = True) -> bytes:
    return write_all(RESPONSES, found, stream=True, one_by_one=one_by_one)


def pieces(found: list[ReadChunk], *kinds: PieceKind) -> list[Piece]:
    return [piece for chunk in found for piece in chunk.pieces if piece.kind in kinds]


def texts(found: list[ReadChunk], kind: PieceKind = PieceKind.OPAQUE) -> list[str]:
    return [piece.text for piece in pieces(found, kind)]


def calls(found: list[ReadChunk]) -> list[tuple[str, str]]:
    return [(block.name, block.text) for block in blocks_of(found) if block.kind == "call"]


def change(found: list[ReadChunk], arguments: str, name: str | None = None) -> None:
    """Every call gets these arguments, as the engine says it."""
    for block in blocks_of(found):
        if block.kind == "call":
            block.changed, block.released, block.new_name = True, [arguments], name
            deltas = [piece for piece in pieces(found, PieceKind.DELTA) if piece.block is block]
            for at, piece in enumerate(deltas):
                piece.out = "" if at else arguments


# -- nothing goes unseen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "a", "unheard": "of"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": ["of"]},
        {"type": "response.output_text.delta", "output_index": 0, "delta": {"text": "of"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "a", "item_id": {"of": "of"}},
        {"type": "response.output_text.delta", "output_index": "of", "delta": "a"},
        {"type": "response.output_item.done", "output_index": 0, "item": "of"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "brand_new", "say": ["of"]},
        },
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "message", "content": "of"},
        },
        {
            "type": "response.content_part.added",
            "output_index": 0,
            "part": {"type": "brand_new", "text": "of"},
        },
        {
            "type": "response.content_part.added",
            "output_index": 0,
            "part": {"type": "output_text", "text": ["of"]},
        },
        {"type": "response.brand_new", "of": 1, "said": "of"},
        response("completed", [], metadata={"k": "of"}),
        response("completed", [], usage={"kind": "of"}),
        response("completed", ["of"]),
    ],
    ids=repr,
)
def test_what_the_format_does_not_know_is_opaque(event: Any) -> None:
    # the same twice: a repeat of something else may not hide it
    first = {"type": "response.output_text.delta", "output_index": 0, "delta": "a"}
    if event.get("response", {}).get("usage", {}).get("kind"):
        found = taken(first, event)
        assert "of" in [piece.value["kind"] for piece in pieces(found, PieceKind.USAGE)] or "of" in texts(
            found
        )
    assert "of" in texts(taken(first, event)) or event.get("response", {}).get("usage", {}).get("kind")


def test_a_filler_that_is_no_filler_is_opaque() -> None:
    event = {"type": "response.output_text.delta", "output_index": 0, "delta": "a", "obfuscation": "xYz"}
    assert texts(taken(event, event)) == []
    assert texts(taken(event, {**event, "obfuscation": MARK})) == [MARK]


def test_the_request_that_a_response_repeats_is_shown_once() -> None:
    said = response("created", [], instructions="be good", tools=[{"type": "function", "name": "f"}])
    found = taken(said, {**said, "type": "response.in_progress"}, {**said, "type": "response.completed"})
    assert texts(found).count("be good") == 1
    other = {**said, "type": "response.completed", "response": {**said["response"], "instructions": "be bad"}}
    assert texts(taken(said, other)).count("be bad") == 1


def test_tokens_that_were_not_chosen_are_opaque_and_probabilities_go_with_the_text() -> None:
    token = {
        "token": "a",
        "logprob": -1.0,
        "bytes": [97],
        "top_logprobs": [{"token": "other", "logprob": -2.0}],
    }
    found = taken(
        {"type": "response.output_text.delta", "output_index": 0, "delta": "a", "logprobs": [token]}
    )
    assert texts(found) == ["other"]
    rewrite(found, str.upper)
    assert parsed(written(found))[0]["logprobs"] == []


def test_citations_are_shown_once() -> None:
    citation = {"type": "url_citation", "url": "https://a.example/?q=1", "title": "A title"}
    item = message_item(0, "text")
    item["content"][0]["annotations"] = [citation]
    place = {"item_id": "msg_0", "output_index": 0, "content_index": 0, "annotation_index": 0}
    added = {"type": "response.output_text.annotation.added", **place, "annotation": citation}
    events = message(0, "text")
    found = taken(*events[:-1], added, {**events[-1], "item": item}, response("completed", [item]))
    assert [block.text for block in blocks_of(found) if block.channel == "citation"] == [
        citation["url"],
        "A title",
    ]


def test_reasoning_that_is_encrypted_is_not_writable() -> None:
    for encrypted in (None, "gAAA"):
        item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": encrypted}
        place = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
        found = taken(
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.reasoning_summary_text.delta", **place, "delta": "hm"},
        )
        assert [block.writable for block in blocks_of(found)] == [encrypted is None]


# -- repeats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(1, 6))
def test_text_without_its_deltas_is_taken_where_it_is_first_said(step: int) -> None:
    events = [*message(0, "some text"), response("completed", [message_item(0, "some text")])]
    found = taken(*events[:2], *events[2 + step - 1 :])
    assert texts(found, PieceKind.DELTA) == ["some text"]
    rewrite(found, str.upper)
    assert b"some text" not in written(found)


def test_a_repeat_that_says_something_else_is_a_text_of_its_own() -> None:
    events = [*message(0, "this"), response("completed", [message_item(0, "that")])]
    found = taken(*events)
    assert [block.text for block in blocks_of(found)] == ["this", "that"]
    rewrite(found, str.upper)
    out = parsed(written(found))
    assert out[-1]["response"]["output"][0]["content"][0]["text"] == "THAT"


def test_arguments_that_the_repeat_changes_are_another_call_and_need_their_own_verdict() -> None:
    events = call(0, '{"a":', "1}")
    events[-1] = {**events[-1], "item": call_item(0, '{"rm":1}')}
    events.append(response("completed", [call_item(0, '{"rm":1}')]))
    found = taken(*events)
    assert calls(found) == [("tool_0", '{"a":1}'), ("tool_0", '{"rm":1}')]
    keep_calls(found)
    remove_calls(found, only=lambda block: "rm" in block.text)
    out = written(found)
    assert b"rm" not in out
    assert [each.arguments for each in read(out, RESPONSES.name, stream=True).tool_calls] == ['{"a":1}']


def test_a_call_that_is_renamed_by_its_repeat_is_another_call() -> None:
    events = call(0, "{}")
    events[-1] = {**events[-1], "item": call_item(0, "{}", name="evil")}
    found = taken(*events)
    assert calls(found) == [("tool_0", "{}"), ("evil", "{}")]
    remove_calls(found, only=lambda block: block.name == "evil")
    assert b"evil" not in written(found)


# -- places ------------------------------------------------------------------------------------------------------------

WEIRD = [-1, 10**30, 1.0, 0.0, "0", "x", None, True, [0], {"a": 0}]


@pytest.mark.parametrize("index", WEIRD, ids=repr)
def test_indices_that_are_none_make_nothing_raise_and_hide_nothing(index: Any) -> None:
    events = [{**event, "output_index": index} for event in call(0, '{"a":', "1}")]
    found = taken(*message(0, "text"), *events, response("completed", []))
    assert ("tool_0", '{"a":1}') in calls(found)
    keep_calls(found)
    for event in parsed(written(found)):
        assert type(event.get("output_index", 0)) is int
        assert event.get("output_index", 0) >= 0


def test_two_calls_under_one_index_get_an_index_each() -> None:
    one, two = call(1, '{"a":', "1}", index=0), call(2, '{"b":', "2}", index=0)
    mixed = [each for pair in zip(one, two, strict=True) for each in pair]
    found = taken(response("created", []), *mixed)
    assert calls(found) == [("tool_1", '{"a":1}'), ("tool_2", '{"b":2}')]
    out = parsed(written(found))
    assert (
        [each[1:] for each in merged(out, "output_index")]
        == [each[1:] for each in merged(out, "item_id")]
        == calls(found)
    )


@st.composite
def schedules(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Some calls, their events mixed, their indices as some provider may count them."""
    count = draw(st.integers(1, 4))
    zero = draw(st.booleans())
    shape = st.lists(st.sampled_from(['{"a":', "1", "}", '"x"', ","]), max_size=4)
    queues = [call(n, *draw(shape), index=0 if zero else n) for n in range(count)]
    mixed = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        mixed.append(queue.pop(0))
    return mixed


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_whichever_way_a_client_merges_it_sees_what_the_policies_saw(events: list[dict[str, Any]]) -> None:
    found = taken(response("created", []), *events)
    keep_calls(found)
    out = parsed(written(found))
    by_index, by_id = merged(out, "output_index"), merged(out, "item_id")
    assert sorted(each[1:] for each in by_index) == sorted(each[1:] for each in by_id) == sorted(calls(found))


def test_fragments_after_the_end_of_their_call_are_another_call_for_everybody() -> None:
    late = {
        "type": "response.function_call_arguments.delta",
        "item_id": "fc_0",
        "output_index": 0,
        "delta": '{"late":1}',
    }
    found = taken(response("created", []), *call(0, "{}"), late)
    assert [text for _, text in calls(found)] == ["{}", '{"late":1}']
    assert not blocks_of(found)[-1].closed
    remove_calls(found, None, only=lambda block: "late" in block.text)
    assert b"late" not in written(found)
    out = parsed(written(taken(response("created", []), *call(0, "{}"), late)))
    assert (
        [each[2] for each in merged(out, "output_index")]
        == [each[2] for each in merged(out, "item_id")]
        == ["{}", '{"late":1}']
    )


def test_text_after_the_end_of_its_item_is_a_text_of_its_own() -> None:
    late = {
        "type": "response.output_text.delta",
        "item_id": "msg_0",
        "output_index": 0,
        "content_index": 0,
        "delta": "late",
    }
    found = taken(*message(0, "text"), late)
    assert [block.text for block in blocks_of(found)] == ["text", "late"]
    assert parsed(written(found))[-1]["output_index"] == 1


def test_ids_that_change_with_every_event_become_one() -> None:
    # GitHub Copilot encrypts the ids anew each time; clients that go by the id must see one item, too
    events = message(0, "a", "b")
    for at, event in enumerate(events):
        if "item_id" in event:
            event["item_id"] = f"id{at}"
        else:
            event["item"] = {**event["item"], "id": f"id{at}"}
    found = taken(*events)
    assert [block.text for block in blocks_of(found)] == ["ab"]
    out = parsed(written(found))
    assert {event["item_id"] for event in out if "item_id" in event} == {"id0"}
    assert out[-1]["item"]["id"] == "id6"  # what clients send back


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_stream_that_is_cut_leaves_its_call_open(cut: int) -> None:
    found = taken(*call(0, '{"a":', "1}")[:cut])
    (block,) = blocks_of(found)
    assert not block.closed
    assert pieces(found, PieceKind.STOP)[-1].block is block


def test_fragments_of_a_call_that_was_never_announced_are_a_call() -> None:
    found = taken(*call(0, "{", "}")[1:])
    assert calls(found) == [("tool_0", "{}")]
    assert blocks_of(found)[0].id == "call_0"


# -- removed calls -----------------------------------------------------------------------------------------------------

SECRETS = ["first secret", "second secret", "third secret"]


def three_calls() -> list[dict[str, Any]]:
    made = [*message(0, "Let me see.")]
    for n, secret in enumerate(SECRETS, 1):
        made += call(n, '{"a":', json.dumps(secret), "}")
    items = [
        message_item(0, "Let me see."),
        *(call_item(n, json.dumps({"a": s}, separators=(",", ":"))) for n, s in enumerate(SECRETS, 1)),
    ]
    return [response("created", []), *made, response("completed", items)]


SUBSETS = [subset for size in range(4) for subset in combinations(range(3), size)]


@pytest.mark.parametrize("subset", SUBSETS, ids=repr)
@pytest.mark.parametrize("replacement", ["That was blocked.", None])
def test_any_of_several_calls_can_go_streamed_or_not(
    subset: tuple[int, ...], replacement: str | None
) -> None:
    events = three_calls()
    body = json.dumps(events[-1]["response"]).encode()
    answers = []
    for raw, streamed in ((stream(*events), True), (body, False)):
        found = read_all(RESPONSES, chunks_of(raw, stream=streamed), stream=streamed)
        keep_calls(found)
        remove_calls(found, replacement, lambda block: any(SECRETS[n] in block.text for n in subset))
        out = write_all(RESPONSES, found, stream=streamed, one_by_one=True)
        for n, secret in enumerate(SECRETS):
            assert (secret.encode() in out) is (n not in subset)
            assert (f"call_{n + 1}".encode() in out) is (n not in subset)
        left = read(out, RESPONSES.name, stream=streamed)
        assert left.problems == []
        reads(RESPONSES.name, out, stream=streamed)
        final = parsed(out)[-1]["response"] if streamed else json.loads(out)
        answers.append([each.get("arguments") or each["content"][0]["text"] for each in final["output"]])
        if streamed:
            numbers = [event["sequence_number"] for event in parsed(out)]
            assert numbers == list(range(len(numbers)))
    assert answers[0] == answers[1]
    assert answers[0].count("That was blocked.") == (len(subset) if replacement else 0)


def test_calls_side_by_side_keep_their_places_when_one_goes() -> None:
    one, two, three = (call(n, '{"a":', f'"{SECRETS[n]}"', "}") for n in range(3))
    mixed = [each for row in zip(one, two, three, strict=True) for each in row]
    found = taken(response("created", []), *mixed)
    keep_calls(found)
    remove_calls(found, None, lambda block: block.name == "tool_1")
    out = parsed(written(found))
    assert [(at, name) for at, name, _ in merged(out, "output_index")] == [(0, "tool_0"), (1, "tool_2")]


def test_what_a_provider_says_about_its_own_call_goes_with_it() -> None:
    item = {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}
    done = {**item, "status": "completed", "action": {"type": "search", "query": MARK}}
    place = {"item_id": "ws_1", "output_index": 0}
    found = taken(
        response("created", []),
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.web_search_call.in_progress", **place},
        {"type": "response.web_search_call.searching", **place},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        response("completed", [done]),
    )
    assert calls(found) == [
        ("web_search_call", json.dumps(done["action"], ensure_ascii=False, separators=(",", ":")))
    ]
    assert blocks_of(found)[0].tool_kind == "server"
    remove_calls(found, None)
    assert [event["type"] for event in parsed(written(found))] == ["response.created", "response.completed"]


def test_an_incomplete_answer_stays_incomplete() -> None:
    last = response("incomplete", [call_item(0, "{}")], incomplete_details={"reason": "max_output_tokens"})
    found = taken(response("created", []), *call(0, "{}"), last)
    assert [piece.text for piece in pieces(found, PieceKind.FINISH)] == ["max_output_tokens"]
    remove_calls(found)
    final = parsed(written(found))[-1]
    assert final["type"] == "response.incomplete"
    assert final["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


# -- structured calls --------------------------------------------------------------------------------------------------


def shell(command: str) -> list[dict[str, Any]]:
    item = {"id": "sh_1", "type": "shell_call", "status": "in_progress", "call_id": "call_1"}
    begun = {**item, "action": {"commands": [], "timeout_ms": None}}
    done = {**item, "status": "completed", "action": {"commands": [command], "timeout_ms": None}}
    place = {"output_index": 0, "command_index": 0}
    return [
        response("created", []),
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.shell_call_command.added", **place, "command": ""},
        {"type": "response.shell_call_command.delta", **place, "delta": command[:4]},
        {"type": "response.shell_call_command.delta", **place, "delta": command[4:]},
        {"type": "response.shell_call_command.done", **place, "command": command},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        response("completed", [done]),
    ]


def test_a_command_that_is_spelled_out_and_repeated_is_one_call() -> None:
    found = taken(*shell("rm -rf /tmp/x"))
    assert calls(found) == [("shell_call", '{"commands":["rm -rf /tmp/x"],"timeout_ms":null}')]
    assert written(found) == stream(*shell("rm -rf /tmp/x"))
    remove_calls(found)
    assert b"rm -rf" not in written(found)
    assert b"/tmp/x" not in written(found)


def test_a_command_that_was_spelled_out_otherwise_is_seen() -> None:
    events = shell("rm -rf /tmp/x")
    events[-2] = {**events[-2], "item": {**events[-2]["item"], "action": {"commands": ["ls"]}}}
    ((_, arguments),) = calls(taken(*events[:-1]))
    assert "rm -rf /tmp/x" in arguments
    (block,) = blocks_of(taken(*events[:5]))
    assert "rm -rf /tmp/x" in block.text


@pytest.mark.parametrize("late", ["delta", "done", "draft"])
def test_a_command_that_is_spelled_out_after_its_end_is_another_call(late: str) -> None:
    events = shell("rm -rf /tmp/x")
    place = {"output_index": 0, "command_index": 0}
    spelled = {
        "delta": {"type": "response.shell_call_command.delta", **place, "delta": "dd of"},
        "done": {"type": "response.shell_call_command.done", **place, "command": "dd of"},
        "draft": response("in_progress", [{**events[1]["item"], "action": {"commands": ["dd of"]}}]),
    }
    found = taken(*events[:-1], spelled[late], events[-1])
    keep_calls(found)
    assert ["rm -rf" in block.text for block in blocks_of(found)] == [True, False]
    assert "dd of" in blocks_of(found)[1].text
    stopped: list[Block | None] = []
    for piece in pieces(found, PieceKind.DELTA, PieceKind.STOP):
        assert not any(piece.block is each for each in stopped)
        stopped += [piece.block] if piece.kind is PieceKind.STOP else []
    again = shell("rm -rf /tmp/x")
    assert len(blocks_of(taken(*again[:5], again[6], again[5], again[7]))) == 1  # late, but nothing new


def test_a_draft_that_another_draft_replaces_is_seen() -> None:
    events = shell("ls")
    drafts = [
        {**events[1]["item"], "action": {"commands": [each], "env": {"x y": each}}}
        for each in ("dd of", "ls")
    ]
    found = taken(*events[:2], *(response("in_progress", [each]) for each in drafts), *events[6:])
    (block,) = blocks_of(found)
    assert "dd of" in block.text
    assert "x y" in block.text


def test_a_changed_command_leaves_changed_everywhere() -> None:
    found = taken(*shell("rm -rf /tmp/x"))
    change(found, '{"commands": ["ls"]}')
    out = written(found)
    assert b"rm -rf" not in out
    assert b"/tmp/x" not in out
    events = parsed(out)
    assert (
        events[-2]["item"]["action"] == events[-1]["response"]["output"][0]["action"] == {"commands": ["ls"]}
    )
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@pytest.mark.parametrize("arguments", ["", "ls", '{"a":1,"a":2}', "NaN"])
def test_a_command_that_is_changed_to_no_json_is_illegal(arguments: str) -> None:
    found = taken(*shell("rm -rf /tmp/x"))
    change(found, arguments)
    with pytest.raises(IllegalOutput):
        written(found)


def test_a_call_that_nobody_knows_is_all_its_fields() -> None:
    item = {
        "id": "x_1",
        "type": "teleport_call",
        "status": "completed",
        "to": "Mars",
        "by": {"way": "of Venus"},
    }
    body = json.dumps(response("completed", [item])["response"]).encode()
    found = read_all(RESPONSES, chunks_of(body, stream=False), stream=False)
    (block,) = [block for block in blocks_of(found) if block.kind == "call"]
    assert (block.tool_kind, block.name, block.text) == (
        "unknown",
        "teleport_call",
        '{"to":"Mars","by":{"way":"of Venus"}}',
    )
    change(found, '{"to":"Earth"}')
    (left,) = json.loads(write_all(RESPONSES, found, stream=False))["output"]
    assert left == {"id": "x_1", "type": "teleport_call", "status": "completed", "to": "Earth"}
    change(found, '{"to":"Earth","type":"message"}')
    with pytest.raises(IllegalOutput):
        write_all(RESPONSES, found, stream=False)


def test_a_changed_call_leaves_changed_in_deltas_repeats_and_the_last_event() -> None:
    found = taken(
        response("created", []), *call(0, '{"a":', "1}"), response("completed", [call_item(0, '{"a":1}')])
    )
    change(found, '{"b":"é"}', "other")
    out = written(found)
    events = parsed(out)
    assert merged(events, "output_index") == [(0, "other", '{"b":"é"}')]
    assert [event["item"]["name"] for event in events if "item" in event] == ["other", "other"]
    assert b"tool_0" not in out
    left = read(out, RESPONSES.name, stream=True)
    assert left.problems == []
    assert [(each.name, each.arguments) for each in left.tool_calls] == [("other", '{"b":"é"}')]


# -- ends --------------------------------------------------------------------------------------------------------------

LONG = [
    response("created", []),
    {"type": "response.output_item.added", "output_index": 0, "item": {"id": "rs_1", "type": "reasoning", "summary": []}},
    {"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0, "summary_index": 0,
     "part": {"type": "summary_text", "text": ""}},
    {"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "delta": "Hm"},
    {"type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "text": "Hm"},
    {"type": "response.reasoning_summary_part.done", "item_id": "rs_1", "output_index": 0, "summary_index": 0,
     "part": {"type": "summary_text", "text": "Hm"}},
    {"type": "response.output_item.done", "output_index": 0,
     "item": {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}},
    *message(1, "Some", " text"),
    *call(2, '{"a":', "1}"),
]  # fmt: skip


@pytest.mark.parametrize("count", range(len(LONG) + 1))
def test_an_answer_ends_whole_wherever_it_is_ended(count: int) -> None:
    found = taken(*LONG)[:count]
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    out = b"".join(raw for raw, _ in writer.write(found))
    out += writer.end("Blocked \ud83d here.", {"input_tokens": 7})
    assert writer.finished
    assert writer.end("again", None) == b""
    left = read(out, RESPONSES.name, stream=True)
    assert left.problems == []
    assert left.complete
    assert left.text.endswith("Blocked ? here.")
    events = reads(RESPONSES.name, out, stream=True)
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    usage = parsed(out)[-1]["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (7, 0, 7)
    assert [event["sequence_number"] for event in parsed(out)] == list(range(len(events)))


def test_a_body_ends_and_fails_as_a_body() -> None:
    writer = RESPONSES.writer(stream=False, model="m", call_id="0190")
    (answer,) = reads(RESPONSES.name, writer.end("Blocked.", None), stream=False)
    assert answer.output_text == "Blocked."
    assert answer.usage.total_tokens == 0
    assert writer.finished
    failed = json.loads(
        RESPONSES.writer(stream=False, model="m", call_id="0190").fail(400, "invalid_prompt", "No.")
    )
    assert failed["error"]["code"] == "invalid_prompt"
    assert json.loads(RESPONSES.error(500, "c", "m"))["error"]["type"] == "server_error"


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_stream_fails_with_its_own_event(count: int) -> None:
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    writer.write(taken(*LONG)[:count])
    out = writer.fail(400, "invalid_prompt", "No.")
    (event,) = parsed(out)
    assert event["type"] == "response.failed"
    assert event["response"]["error"] == {"code": "invalid_prompt", "message": "No."}
    assert writer.finished
    assert reads(RESPONSES.name, out, stream=True)[0].response.status == "failed"


# -- grammar -----------------------------------------------------------------------------------------------------------


def made(event: Any, name: str | None = None) -> ReadChunk:
    chunk = Chunk("data", b"data: " + json.dumps(event).encode() + b"\n\n", event, name)
    return ReadChunk(chunk, RESPONSES.reader(stream=True).read(chunk))


DELTA = {
    "type": "response.output_text.delta",
    "item_id": "msg_1",
    "output_index": 1,
    "content_index": 0,
    "delta": "x",
}
ARGS = {"type": "response.function_call_arguments.delta", "item_id": "msg_1", "output_index": 1, "delta": "x"}


@pytest.mark.parametrize(
    ("before", "event"),
    [
        (0, DELTA),
        (0, response("completed", [])),
        (1, response("created", [])),
        (1, DELTA),
        (8, ARGS),
        (8, {**DELTA, "output_index": 0}),
        (8, {**DELTA, "delta": None}),
        (8, {"type": "response.output_item.added", "output_index": 1, "item": message_item(1, "")}),
        (8, {"type": "response.brand_new"}),
        (8, {"type": None}),
        (8, {"no": "type"}),
        (8, []),
        (14, DELTA),
        (len(LONG) + 1, DELTA),
    ],
    ids=repr,
)
def test_what_the_grammar_forbids_does_not_leave(before: int, event: Any) -> None:
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    writer.write(taken(*LONG, response("completed", []))[:before])
    with pytest.raises(IllegalOutput):
        writer.write([made(event)])


def test_what_the_grammar_allows_leaves_and_is_counted() -> None:
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    found = taken(*LONG)
    extra = [made(DELTA), made({**DELTA, "output_index": "1"})]
    out = b"".join(raw for raw, _ in writer.write([*found[:10], *extra, *found[10:]]))
    assert [event["sequence_number"] for event in parsed(out)] == list(range(len(LONG) + 2))
    assert [event["output_index"] for event in parsed(out)[9:13]] == [1] * 4
    with pytest.raises(IllegalOutput):
        writer.write([made(DELTA, "response.output_text.done")])


@pytest.mark.parametrize("index", WEIRD, ids=repr)
def test_parts_whose_index_is_none_make_nothing_raise_and_end_under_one_that_is(index: Any) -> None:
    events = [
        {**event, "content_index": index} if "content_index" in event else event
        for event in message(0, "a", "b")
    ]
    place = {"output_index": 0, "item_id": "msg_0", "content_index": index, "annotation_index": index}
    note = {"type": "response.output_text.annotation.added", **place, "annotation": {"title": "of note"}}
    found = taken(response("created", []), *events[:-1], note)
    assert [block.text for block in blocks_of(found)] == ["ab", "of note"]
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    writer.write(found)
    for event in parsed(writer.end("Blocked.", None)):
        assert type(event.get("content_index", 0)) is int


def test_words_of_a_reasoning_are_no_arguments_of_a_call_that_is_ended() -> None:
    begun, fragment, *_ = call(0, "{}")
    said = {**fragment, "type": "response.reasoning_summary.delta", "delta": "rm"}
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    writer.write(taken(response("created", []), begun, said))
    ended = parsed(writer.end("Blocked.", None))
    assert [each["arguments"] for each in ended if "arguments" in each] == [""]


@pytest.mark.parametrize("event", [{**DELTA, "output_index": 9}, {"type": "response.brand_new"}], ids=repr)
def test_what_was_written_before_something_illegal_leaves_with_the_end(event: Any) -> None:
    for count in range(1, 10):
        writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
        found = taken(*LONG)
        out = b"".join(raw for raw, _ in writer.write(found[:count]))
        with pytest.raises(IllegalOutput):
            writer.write([*found[count:10], made(event)])
        out += writer.end("Blocked.", None)
        assert out.startswith(stream(*LONG[:10]))
        assert [each["sequence_number"] for each in parsed(out)] == list(range(len(parsed(out))))
        assert parsed(out)[-1]["response"]["output"][-1] == parsed(out)[-2]["item"]
        assert parsed(out)[-2]["output_index"] == 2
        reads(RESPONSES.name, out, stream=True)


def test_what_a_policy_makes_up_around_its_item_makes_nothing_raise() -> None:
    event = {"type": "response.audio.delta", "output_index": [], "delta": "x"}
    writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
    found = taken(*LONG)
    ((raw, _),) = writer.write([*found[:1], ReadChunk(made(event).chunk, [])])[1:]
    assert parsed(raw) == [{**event, "sequence_number": 1}]


def test_what_upstream_got_wrong_and_nobody_touched_passes() -> None:
    wrong = [*message(1, "x")[2:], *call(2, "{}")[1:], response("created", []), response("created", [])]
    found = taken(*wrong)
    keep_calls(found)
    assert written(found) == stream(*wrong)


@pytest.mark.parametrize("streamed", [True, False])
def test_text_that_is_no_unicode_is_illegal_and_in_words_of_ours_a_question_mark(streamed: bool) -> None:
    def came() -> list[ReadChunk]:
        events = [response("created", []), *message(0, "x"), *call(1, "{}")]
        last = response("completed", [message_item(0, "x"), call_item(1, "{}")])
        raw = stream(*events, last) if streamed else json.dumps(last["response"]).encode()
        return read_all(RESPONSES, chunks_of(raw, stream=streamed), stream=streamed)

    found = came()
    rewrite(found, lambda _: "\ud800")
    with pytest.raises(IllegalOutput):
        write_all(RESPONSES, found, stream=streamed)
    found = came()
    remove_calls(found, "no \ud800")
    out = write_all(RESPONSES, found, stream=streamed)
    assert read(out, RESPONSES.name, stream=streamed).text.endswith("no ?")
    assert b"no ?" in RESPONSES.writer(stream=streamed, model="m", call_id="c").fail(400, "c", "no \ud800")
    assert b"no ?" in RESPONSES.error(400, "c", "no \ud800")


# -- whatever upstream sends -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["type", "output_index", "item_id", "delta", "item", "part", "response", "output", "content", "text", "name", "id",
     "arguments", "content_index", "summary", "summary_index", "command", "action", "annotations", "logprobs", "x y"]
)  # fmt: skip
TYPES = st.sampled_from(
    ["response.output_text.delta", "response.output_text.done", "response.output_item.added", "response.created",
     "response.output_item.done", "response.content_part.added", "response.function_call_arguments.delta",
     "response.function_call_arguments.done", "response.completed", "response.shell_call_command.delta", "error",
     "response.output_text.annotation.added", "response.web_search_call.searching", "message", "function_call",
     "shell_call", "odd_call", "reasoning", "output_text", "summary_text", "odd"]
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-1, 3), TYPES, st.sampled_from(["a", "b c", "{}", "fc_0"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
EVENTS = st.lists(
    st.builds(lambda kind, rest: {**rest, "type": kind}, TYPES, st.dictionaries(NAMES, VALUES, max_size=6)),
    max_size=8,
)


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str):
        yield path, value
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from strings(inner, (*path, key))


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_nothing_raises_nothing_goes_unseen_and_what_nobody_touched_leaves_as_it_came(
    events: list[Any],
) -> None:
    found = taken(*events)
    keep_calls(found)
    shown: set[str] = set()
    for chunk in found:
        shown |= {piece.text for piece in chunk.pieces}
        shown |= {
            text for piece in chunk.pieces if piece.is_json for _, text in strings(json.loads(piece.text))
        }
        for _, text in strings(chunk.chunk.data):
            assert text in shown or " " not in text  # with a space it is no identifier
    moved = [piece for piece in pieces(found, PieceKind.DERIVED) if piece.block is None]
    out = written(found)
    assert moved or out == stream(*events)
    for count in range(len(found)):
        again = taken(*events)[:count]
        writer = RESPONSES.writer(stream=True, model="m", call_id="0190")
        writer.write(again)
        ended = writer.end("Blocked.", None)
        assert writer.finished
        assert not ended or parsed(ended)[-1]["type"] == "response.completed"


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.booleans())
def test_of_removed_calls_no_argument_leaves_whatever_upstream_sends(events: list[Any], silent: bool) -> None:
    found = taken(*events)
    remove_calls(found, None if silent else "gone")
    texts = {block.text for block in blocks_of(found) if block.kind == "text"}
    seen = {piece.text for piece in pieces(found, PieceKind.OPAQUE, PieceKind.FAILED)}
    gone = [
        text for block in blocks_of(found) if block.kind == "call" for text in _leaves(block) if " " in text
    ]
    left = [text for event in parsed(written(found)) for _, text in strings(event)]
    assert not [text for text in gone if text in left and text not in texts | seen]


def _leaves(block: Block) -> list[str]:
    try:
        return [text for _, text in strings(json.loads(block.text))]
    except ValueError:
        return block.source


# -- bytes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"delta":"old","type":"t"}\n\n',
        b'data: {"delta" : "old","x":{"delta":"other"}}\n\n',
        b'data: {"\\u0064elta":"old","x":{"delta":"other"}}\n\n',
        b': "delta":"other"\ndata: {"\\u0064elta":"old"}\n\n',
        b'event: "delta":"other"\ndata: {"\\u0064elta":"old"}\n\n',
        b'data: {"x":"\\"delta\\":\\"other\\"","delta":"old"}\n\n',
        b'data: {"n":1.5e0,"delta":"old\\u00e9","big":12345678901234567890}\n\n',
        '{"delta":"oldé"}'.join(("data: ", "\n\n")).encode(),
    ],
)
def test_a_splice_changes_the_member_that_is_meant_and_nothing_else(raw: bytes) -> None:
    (chunk,) = chunks_of(raw, stream=True)
    (left,) = chunks_of(spliced(chunk, {("delta",): "new"}), stream=True)
    assert left.data == {**chunk.data, "delta": "new"}
    assert left.ignored == chunk.ignored


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    ['"x"', "[]", '{"stream":"true"}', '{"stream":1}', '{"input":1}', '{"input":{}}', '{"model":1}', '{"tools":{}}',
     '{"instructions":[]}', '{"a":1,"a":2}', '{"max_output_tokens":true}', '{"max_output_tokens":"1"}', "{} x"],
)  # fmt: skip
def test_requests_that_are_read_in_two_ways_are_refused(body: str) -> None:
    with pytest.raises(MalformedBody):
        RESPONSES.read_request(body.encode())


def test_requests_change_only_where_they_were_changed() -> None:
    body = b'{ "model":"m" , "input":[{"role":"user","content":"h\\u0069"}],  "stream":null, "temperature":1.0e0}'
    request = RESPONSES.read_request(body)
    assert not request.stream
    assert RESPONSES.write_request(body, request, request) == body
    changed = RESPONSES.write_request(body, request, request.replace(model="n", max_tokens=5))
    assert changed == body.replace(b'"m"', b'"n"')[:-1] + b',"max_output_tokens":5}'


@pytest.mark.parametrize("text", ["hello", ""])
def test_an_input_of_one_string_is_a_message(text: str) -> None:
    request = RESPONSES.read_request(json.dumps({"input": text, "previous_response_id": "resp_0"}).encode())
    assert request.messages == [{"role": "user", "content": text}]
    assert RESPONSES.read_request(b'{"stream":true}').stream
