"""openai.responses on streams made by hand: several calls, calls with objects for arguments, broken and hostile order,
what a policy may make up, requests."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent

from luthien_guard.errors import IllegalOutput, MalformedBody
from luthien_guard.events import Chunk
from luthien_guard.testing.reading import read
from luthien_guard.wire.format import PieceKind, ReadChunk
from luthien_guard.wire.responses import RESPONSES
from luthien_guard.wire.responses.made import blank_response
from tests.official_sdks import reads
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, write_all

API = "openai.responses"


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


def stream(*items: list[dict[str, Any]], output: list[Any]) -> bytes:
    blank = blank_response("resp_1", "m")
    events = [{"type": "response.created", "response": blank}]
    events += [event for item in items for event in item]
    events.append(
        {"type": "response.completed", "response": {**blank, "status": "completed", "output": output}}
    )
    return sse(*({**event, "sequence_number": at} for at, event in enumerate(events)))


def call(at: int, name: str, arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    done = {"id": f"fc_{at}", "type": "function_call", "status": "completed", "call_id": f"call_{at}", "name": name,
            "arguments": arguments}  # fmt: skip
    place = {"item_id": f"fc_{at}", "output_index": at}
    half = len(arguments) // 2
    return done, [
        {
            "type": "response.output_item.added",
            "output_index": at,
            "item": {**done, "status": "in_progress", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", **place, "delta": arguments[:half]},
        {"type": "response.function_call_arguments.delta", **place, "delta": arguments[half:]},
        {"type": "response.function_call_arguments.done", **place, "name": name, "arguments": arguments},
        {"type": "response.output_item.done", "output_index": at, "item": done},
    ]


def three(*, interleaved: bool) -> tuple[list[dict[str, Any]], bytes]:
    made = [call(at, f"tool_{at}", json.dumps({"secret": f"⚑ number {at}"})) for at in range(3)]
    runs = [events for _, events in made]
    mixed = [[event for step in zip(*runs, strict=True) for event in step]] if interleaved else runs
    return [item for item, _ in made], stream(*mixed, output=[item for item, _ in made])


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("gone", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}, {0, 1, 2}], ids=str)
@pytest.mark.parametrize("replacement", ["not this one", None], ids=["said", "silent"])
def test_some_of_several_calls_removed(gone: set[int], interleaved: bool, replacement: str | None) -> None:
    items, body = three(interleaved=interleaved)
    for streamed, sample in ((True, body), (False, last_response(body))):
        found = read_all(RESPONSES, chunks_of(sample, stream=streamed), stream=streamed)
        remove_calls(found, replacement, lambda block: int(block.name[-1]) in gone)
        keep_calls(found)
        out = write_all(RESPONSES, found, stream=streamed, one_by_one=True)
        answer = read(out, API, stream=streamed)
        # a message that stands for a call is done before the calls that began earlier: the reader counts by that order
        order = ["the final output is not what the items said"] if interleaved and replacement else []
        assert answer.problems in ([], order)
        assert [each.name for each in answer.tool_calls] == [
            f"tool_{at}" for at in range(3) if at not in gone
        ]
        assert answer.text.count("not this one") == (len(gone) if replacement else 0)
        for at in gone:
            assert (
                f"number {at}".encode() not in out
                and f"tool_{at}".encode() not in out
                and f"call_{at}".encode() not in out
            )
        reads(API, out, stream=streamed)
        if streamed:
            events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
            assert [each["sequence_number"] for each in events] == list(range(len(events)))
            places = [each["output_index"] for each in events if each["type"] == "response.output_item.added"]
            assert sorted(places) == list(range(len(places)))


def last_response(body: bytes) -> bytes:
    event = json.loads(body.rstrip().rsplit(b"data: ", 1)[1])
    return json.dumps(event["response"]).encode()


ACTION = {"type": "exec", "command": ["ls"], "env": {}}


def shell() -> bytes:
    done = {
        "id": "lsh_0",
        "type": "local_shell_call",
        "status": "completed",
        "call_id": "call_0",
        "action": ACTION,
    }
    begun = {**done, "status": "in_progress", "action": {**ACTION, "command": []}}
    return stream(
        [{"type": "response.output_item.added", "output_index": 0, "item": begun},
         {"type": "response.output_item.done", "output_index": 0, "item": done}],
        output=[done],
    )  # fmt: skip


def changed(body: bytes, arguments: str, name: str | None = None) -> bytes:
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    blocks = [block for block in blocks_of(found) if block.kind == "call"]
    assert len(blocks) == 1
    blocks[0].changed, blocks[0].released, blocks[0].new_name = True, [arguments], name
    for at, piece in enumerate([p for c in found for p in c.pieces if p.kind is PieceKind.DELTA]):
        piece.out = "" if at else arguments
    return write_all(RESPONSES, found, stream=True)


def test_a_call_whose_arguments_are_an_object_is_one_call_and_changes_as_one() -> None:
    new = {**ACTION, "command": ["true"]}
    out = changed(shell(), json.dumps(new))
    done = [each.item for each in reads(API, out, stream=True) if each.type == "response.output_item.done"]
    assert done[0].action.command == ["true"] and read(out, API, stream=True).problems == []
    assert b'"ls"' not in out


def test_arguments_that_are_not_json_cannot_stand_where_an_object_stood() -> None:
    with pytest.raises(IllegalOutput):
        changed(shell(), "{not json")


def test_a_call_of_no_known_kind_keeps_its_ids_when_it_is_changed() -> None:
    done = {"id": "x_0", "type": "teleport_call", "status": "completed", "where": "⚑ there", "when": "now"}
    body = stream([{"type": "response.output_item.added", "output_index": 0, "item": {**done, "where": "", "when": ""}},
                   {"type": "response.output_item.done", "output_index": 0, "item": done}], output=[done])  # fmt: skip
    out = changed(body, '{"where":"home","when":"now"}')
    assert "⚑".encode() not in out and b"\\u2691" not in out
    assert json.loads(out.split(b"data: ")[-1])["response"]["output"] == [{**done, "where": "home"}]


EVENTS = st.sampled_from(
    [event for at in range(2) for event in call(at, f"tool_{at}", f'{{"a":"⚑{at}"}}')[1]]
)
INDICES = st.sampled_from([0, 1, 2, -1, None, "0", 1e9, True, 10**30])
CHANGES = st.fixed_dictionaries(
    {}, optional={"output_index": INDICES, "item_id": st.sampled_from(["fc_0", "fc_1", "", 7])}
)


def merged(events: list[dict[str, Any]], key: str) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for event in events:
        if event["type"] == "response.output_item.added":  # clients begin anew where an item is announced
            place = event.get(key) if key == "output_index" else event["item"].get("id")
            found[("before", len(found))] = found.pop(place, "")
        elif (
            event["type"].endswith("arguments.delta")
            and isinstance(event.get(key), (int, str))
            and event[key] != ""
        ):
            found[event[key]] = found.get(event[key], "") + event["delta"]
    return found


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(EVENTS, CHANGES), max_size=14))
def test_any_order_is_read_alike_by_index_and_by_id(
    script: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    body = sse(*({**event, **change} for event, change in script))
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    keep_calls(found)
    judged = [block.prefix + block.text for block in blocks_of(found) if block.kind == "call"]
    out = write_all(RESPONSES, found, stream=True)
    events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
    for text in (*merged(events, "output_index").values(), *merged(events, "item_id").values()):
        assert any(text in each for each in judged)
    for piece in (p for c in found for p in c.pieces if p.kind is PieceKind.DELTA):
        assert piece.text in "".join(judged)


@settings(deadline=None, max_examples=150)
@given(st.lists(EVENTS, max_size=14), st.integers(0, 14))
def test_of_calls_that_are_all_removed_nothing_leaves_whatever_the_order(
    script: list[dict[str, Any]], cut: int
) -> None:
    found = read_all(RESPONSES, chunks_of(sse(*script), stream=True), stream=True)
    remove_calls(found, "gone")
    out = write_all(RESPONSES, found, stream=True)
    assert b"\\u2691" not in out and "⚑".encode() not in out and b"tool_" not in out
    writer = RESPONSES.writer(stream=True, model="m", call_id="c")
    raw = b"".join(raw for chunk in found[:cut] for raw, _ in writer.write([chunk])) + writer.end(
        "over", None
    )
    assert writer.finished and read(raw, API, stream=True).text.endswith("over")


MADE_UP: list[dict[str, Any]] = [
    {"type": "response.brand_new"},
    {
        "type": "response.output_text.delta",
        "output_index": 5,
        "content_index": 0,
        "item_id": "x",
        "delta": "x",
    },
    {"type": "response.output_item.done", "output_index": 5, "item": {}},
    {"type": "response.created", "response": {}},
    {},
]


@pytest.mark.parametrize("event", MADE_UP, ids=lambda event: str(event.get("type")))
def test_what_a_policy_makes_up_must_be_legal(event: dict[str, Any]) -> None:
    _, body = three(interleaved=False)
    chunks = chunks_of(body, stream=True)
    found = read_all(RESPONSES, chunks, stream=True)
    writer = RESPONSES.writer(stream=True, model="m", call_id="c")
    writer.write(found[:3])
    raw = b"data: " + json.dumps(event).encode() + b"\n\n"
    with pytest.raises(IllegalOutput):
        writer.write([ReadChunk(Chunk("data", raw, event), [], None)])


def test_nothing_may_be_made_up_after_the_end_and_a_legal_insertion_renumbers() -> None:
    _, body = three(interleaved=False)
    found = read_all(RESPONSES, chunks_of(body, stream=True), stream=True)
    keep_calls(found)
    event = {"type": "response.in_progress", "response": {"id": "resp_1"}, "sequence_number": 0}
    extra = ReadChunk(Chunk("data", sse(event), event, "response.in_progress"), [], None)
    writer = RESPONSES.writer(stream=True, model="m", call_id="c")
    out = b"".join(raw for raw, _ in writer.write([found[0], extra, *found[1:]]))
    numbers = [
        json.loads(line[6:])["sequence_number"] for line in out.split(b"\n") if line.startswith(b"data: ")
    ]
    assert numbers == list(range(len(numbers)))
    with pytest.raises(IllegalOutput):
        writer.write([extra])


def test_every_event_type_of_the_sdk_is_known() -> None:
    models = get_args(get_args(ResponseStreamEvent)[0])
    kinds = [get_args(model.model_fields["type"].annotation)[0] for model in models]
    for kind in [*kinds, "response.compaction.compacting"]:  # the last is the next SDK's
        reader = RESPONSES.reader(stream=True)
        reader.read(Chunk("data", b"x", {"type": kind}))
        assert reader.unknown == "", kind
    reader.read(Chunk("data", b"x", {"type": "response.brand_new"}))
    assert "brand_new" in reader.unknown


@pytest.mark.parametrize(
    "text", ['{"delta" : "a\\"b"', '{"delta":"\\u00e9\\/"', '{"d\\u0065lta":"x"', '{"x":"\\"delta\\":","delta":"y"',
             '{"x":{"delta":"z"},"delta":"x"', '{"x":[{"delta":"z"}],"d\\u0065lta":"x"'],
)  # fmt: skip
def test_only_the_text_of_a_rewritten_delta_differs(text: str) -> None:
    raw = (
        f'data: {text},"type":"response.output_text.delta","output_index":0,"content_index":0}}\n\n'.encode()
    )
    found = read_all(RESPONSES, chunks_of(raw, stream=True), stream=True)
    for chunk in found:
        for piece in chunk.pieces:
            if piece.kind is PieceKind.DELTA and piece.path == ("delta",):
                piece.out = "new é\u2028"
                assert piece.block is not None
                piece.block.changed = True
    out = write_all(RESPONSES, found, stream=True)
    came, left = json.loads(raw[6:]), json.loads(out[6:])
    assert left == {**came, "delta": "new é\u2028"}


@pytest.mark.parametrize("stream", ['"true"', "1", "0", '""', "[]", "1.0"])
def test_whether_to_stream_is_true_or_false(stream: str) -> None:
    with pytest.raises(MalformedBody):
        RESPONSES.read_request(b'{"model":"m","input":"x","stream":%s}' % stream.encode())


def test_requests_change_only_where_they_were_changed() -> None:
    body = b'{ "model" : "m",\n"input":"h\\u00e9", "stream": null, "temperature": 1.0 }'
    request = RESPONSES.read_request(body)
    assert not request.stream
    assert RESPONSES.write_request(body, request, request) == body
    out = RESPONSES.write_request(body, request, request.replace(model="n"))
    assert out == body.replace(b'"m"', b'"n"')
