"""anthropic.messages, by other tests than `test_messages`: written for another implementation of the same contract."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthien_guard.errors import IllegalOutput, MalformedBody
from luthien_guard.events import Chunk
from luthien_guard.testing import check_wire_format
from luthien_guard.testing.reading import read as transcript
from luthien_guard.wire.format import PieceKind, ReadChunk, is_identifier
from luthien_guard.wire.messages import MESSAGES
from luthien_guard.wire.sse import canonical
from tests.official_sdks import reads
from tests.recordings import FOLDER, Recording, needs_recordings, recordings
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, rewrite, write_all

API = "anthropic.messages"
ALL = recordings(API) if FOLDER.is_dir() else ()
each = pytest.mark.parametrize("recording", ALL, ids=repr)
USAGE = {"input_tokens": 3, "output_tokens": 2}
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": USAGE,
}  # fmt: skip


START = {"type": "message_start", "message": MESSAGE}
STOP = {"type": "message_stop"}
PLACES = {"content": "text", "reasoning": "thinking"}


def finish(reason: str = "end_turn") -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}}


def begin(index: Any, kind: str = "text", **fields: Any) -> dict[str, Any]:
    blank: dict[str, Any] = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}.get(
        kind, {"input": {}}
    )
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **blank, **fields}}


def delta(index: Any, kind: str, value: Any) -> dict[str, Any]:
    key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[kind]
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: value}}


def text(index: Any, value: Any) -> dict[str, Any]:
    return delta(index, "text_delta", value)


def part(index: Any, value: str) -> dict[str, Any]:
    return delta(index, "input_json_delta", value)


def stop(index: Any) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def call(index: int, name: str, *fragments: str, kind: str = "tool_use") -> list[dict[str, Any]]:
    return [
        begin(index, kind, id=f"id_{name}", name=name),
        *(part(index, each) for each in fragments),
        stop(index),
    ]


def wire(*events: Any) -> bytes:
    return b"".join(
        canonical(json.dumps(each, ensure_ascii=False).encode(), each.get("type")) for each in events
    )


def read_of(*events: Any) -> list[ReadChunk]:
    return read_all(MESSAGES, chunks_of(wire(*events), stream=True), stream=True)


def body_of(**fields: Any) -> list[ReadChunk]:
    body = json.dumps({**MESSAGE, **fields}).encode()
    return read_all(MESSAGES, chunks_of(body, stream=False), stream=False)


def out_of(read: list[ReadChunk], **how: Any) -> list[Any]:
    return [chunk.data for chunk in chunks_of(write_all(MESSAGES, read, stream=True, **how), stream=True)]


def recorded(recording: Recording) -> list[ReadChunk]:
    return read_all(MESSAGES, chunks_of(recording.body, stream=recording.stream), stream=recording.stream)


# -- two clients ---------------------------------------------------------------------------------------------------------


def _block(raw: dict[str, Any]) -> list[str]:
    arguments = json.dumps(raw["input"]) if raw.get("input") else ""
    return [raw["type"], raw.get("text") or raw.get("thinking") or arguments]


def arguments(said: str) -> str:
    """However they are spelled; none at all are `{}`."""
    return said.replace(" ", "") or "{}"


def assembled(events: list[Any], *, by_index: bool) -> list[list[str]]:
    """What a client makes of a stream: one that takes an index for a place in its list, or for a name."""
    places: list[list[str]] = []
    names: dict[Any, list[str]] = {}
    for event in events:
        if event["type"] == "content_block_start":
            places.append(_block(event["content_block"]))
            names[event["index"]] = places[-1]
        elif event["type"] == "content_block_delta":
            if not any(list(event["delta"].values())[1:]):
                continue  # says nothing, wherever it belongs
            block = names[event["index"]] if by_index else places[event["index"]]
            kind = event["delta"]["type"].removesuffix("_delta").replace("input_json", "tool_use")
            if kind == block[0]:
                block[1] += (
                    event["delta"].get("text")
                    or event["delta"].get("thinking")
                    or event["delta"].get("partial_json", "")
                )
    return [[kind, arguments(said) if kind == "tool_use" else said] for kind, said in places]


def seen(read: list[ReadChunk]) -> list[list[str]]:
    """What the policies saw of what leaves."""
    kept = [block for block in blocks_of(read) if not block.removed]
    return [
        ["tool_use", arguments(block.text)] if block.kind == "call" else [PLACES[block.channel], block.text]
        for block in kept
    ]


# -- the recordings ------------------------------------------------------------------------------------------------------


@needs_recordings
@each
def test_what_nobody_changed_leaves_byte_for_byte(recording: Recording) -> None:
    for step in (None, 1, random.Random(recording.id).randrange(2, 400)):
        chunks = chunks_of(recording.body, stream=recording.stream, step=step)
        for one_by_one in (False, True):
            read = read_all(MESSAGES, chunks, stream=recording.stream)
            writer = MESSAGES.writer(stream=recording.stream, model="m", call_id="c")
            batches = [[chunk] for chunk in read] if one_by_one else [read]
            items = [item for batch in batches for item in writer.write(batch)]
            assert b"".join(raw for raw, _ in items) == b"".join(chunk.chunk.raw for chunk in read)
            assert b"".join(raw for raw, _ in items).rstrip() == recording.body.rstrip()
            assert one_by_one or [source for _, source in items] == list(range(len(items)))


#: (the key that holds the object, "#" for a place in a list; the key) of identifiers and enumerations.
ENVELOPE = {
    *((holder, "type") for holder in ("", "message", "delta", "content_block", "citation", "caller", "error", "usage", "#")),
    *((holder, key) for holder in ("", "message") for key in ("id", "model", "role", "stop_reason")),
    *((holder, key) for holder in ("content_block", "#") for key in ("id", "tool_use_id", "server_name")),
    *(("usage", key) for key in ("service_tier", "inference_geo", "speed", "model")),
    ("delta", "stop_reason"), ("caller", "tool_id"), ("", "request_id"), ("error", "code"),
}  # fmt: skip


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str) and value:
        yield path, value
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from strings(inner, (*path, key))


def is_envelope(path: tuple[Any, ...], value: str) -> bool:
    holder = path[-2] if len(path) > 1 else ""
    return ("#" if isinstance(holder, int) else holder, path[-1]) in ENVELOPE and is_identifier(value)


@needs_recordings
@each
def test_every_string_is_accounted_for(recording: Recording) -> None:
    for read in recorded(recording):
        covered = {
            piece.path
            for piece in read.pieces
            if piece.path and piece.kind is not PieceKind.USAGE and piece.text
        }
        for path, value in strings(read.chunk.data):
            assert is_envelope(path, value) or any(path[: len(place)] == place for place in covered), (
                path,
                value,
            )


@needs_recordings
@each
def test_upper_casing_changes_the_content_and_nothing_else(recording: Recording) -> None:
    read = recorded(recording)
    rewrite(read, str.upper)
    keep_calls(read)
    out = write_all(MESSAGES, read, stream=recording.stream)
    left = read_all(MESSAGES, chunks_of(out, stream=recording.stream), stream=recording.stream)
    for before, after in zip(read, left, strict=True):
        changed = {piece.path: piece.out for piece in before.pieces if piece.out is not None}
        same = dict(strings(before.chunk.data))
        assert dict(strings(after.chunk.data)) == {**same, **changed}
        assert before.chunk.raw == after.chunk.raw or changed
    if recording.status == 200 and b'"completion"' not in recording.body:
        reads(API, out, stream=recording.stream)


@needs_recordings
@each
def test_of_removed_calls_nothing_leaves_and_the_sdk_reads_the_rest(recording: Recording) -> None:
    read = recorded(recording)
    remove_calls(read, "⛔")
    calls = [block for block in blocks_of(read) if block.kind == "call"]
    out = write_all(MESSAGES, read, stream=recording.stream)
    left = transcript(out, API, stream=recording.stream)
    for block in calls:
        # Which names the call that called.
        assert block.id.encode() not in out or b'"caller"' in recording.body
        for secret in (block.text, json.dumps(block.text)[1:-1]):
            assert len(secret) < 5 or secret.encode() not in out
    assert left.tool_calls == ()
    assert out.count("⛔".encode()) == len(calls)
    if recording.status == 200 and left.complete and b'"completion"' not in recording.body:
        assert left.problems == [
            each for each in left.problems if "message_stop without" in each or "thinking" in each
        ]
        reads(API, out, stream=recording.stream)


def test_the_rules_of_the_contract_hold() -> None:
    check_wire_format(MESSAGES)


# -- broken streams ------------------------------------------------------------------------------------------------------

indices = st.sampled_from([0, 0, 0, 1, 1, 2, 7, -1, 2**70, None, "0", 1.0, 1.5, True, [0]])
words = st.sampled_from(["a", "bad", "✗", '{"a":', "1}", ""])
events = st.one_of(
    st.builds(begin, indices, st.sampled_from(["text", "thinking"])),
    st.builds(lambda at, said: begin(at, "text", text=said), indices, words),
    st.builds(
        lambda at, given: begin(at, "tool_use", id="t", name="n", input=given),
        indices,
        st.sampled_from([{}, {"a": 1}]),
    ),
    st.builds(delta, indices, st.sampled_from(["text_delta", "thinking_delta", "input_json_delta"]), words),
    st.builds(stop, indices),
    st.just({"type": "ping"}),
    st.just(START),
)


@settings(max_examples=300)
@given(st.lists(events, max_size=12), st.booleans())
def test_every_client_assembles_what_the_policies_saw(middle: list[Any], one_by_one: bool) -> None:
    read = read_of(START, *middle, finish(), STOP)
    out = out_of(read, one_by_one=one_by_one)
    assert assembled(out, by_index=True) == assembled(out, by_index=False) == seen(read)


@settings(max_examples=300)
@given(st.lists(events, max_size=12))
def test_removed_calls_leave_no_trace_whatever_upstream_does(middle: list[Any]) -> None:
    read = read_of(START, *middle, finish("tool_use"), STOP)
    remove_calls(read, "⛔")
    out = out_of(read)
    left = assembled(out, by_index=True)
    assert left == assembled(out, by_index=False)
    assert [block for block in left if "⛔" not in block[1]] == seen(read)
    assert all(kind != "tool_use" for kind, _ in left)
    removed = sum(1 for block in blocks_of(read) if block.kind == "call")
    assert sum(said.count("⛔") for _, said in left) == removed


@settings(max_examples=200)
@given(st.lists(events, max_size=10), st.integers(0, 13))
def test_the_answer_can_end_anywhere(middle: list[Any], released: int) -> None:
    read = read_of(START, *middle, finish(), STOP)
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    out = b"".join(raw for raw, _ in writer.write(read[:released])) + writer.end("⛔", None)
    left = [chunk.data for chunk in chunks_of(out, stream=True)]
    assert writer.finished
    assert left[-1] == STOP
    assert [event["type"] for event in left].count("message_delta") == 1
    assert writer.end("⛔", None) == b""


json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.sampled_from(["text", "tool_use", "✗ no id"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "index", "delta", "content_block", "message", "content", "text", "input", "name", "id", "citation",
             "citations", "usage", "stop_reason", "error", "partial_json", "thinking", "caller", "tool_use_id", "✗ key"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
event_types = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "error",
        "new",
    ]
)


@settings(max_examples=300)
@given(st.lists(st.tuples(event_types, json_values), max_size=4), st.booleans())
def test_no_json_makes_the_reader_raise_or_look_away(values: list[tuple[str, Any]], stream: bool) -> None:
    sent = [{**value, "type": kind} if isinstance(value, dict) else value for kind, value in values]
    for event in sent:
        body = json.dumps(event, ensure_ascii=False).encode()
        read = read_all(
            MESSAGES, chunks_of(b"data: " + body + b"\n\n" if stream else body, stream=stream), stream=stream
        )
        found = "\n".join(piece.text for chunk in read for piece in chunk.pieces)
        for _, value in strings(event):
            # arguments are shown as JSON text
            assert (
                is_identifier(value) or value in found or json.dumps(value, ensure_ascii=False)[1:-1] in found
            )
        write_all(MESSAGES, read, stream=stream)


def test_an_unknown_field_is_opaque_even_where_it_looks_like_an_identifier() -> None:
    read = read_of(START, begin(0), {**text(0, "hi"), "x_new": "looks-like-an-id"})
    assert [piece.text for piece in read[2].pieces if piece.kind is PieceKind.OPAQUE] == ["looks-like-an-id"]


def test_a_call_without_arguments_says_the_same_in_stream_and_body() -> None:
    """The reader finds no text in a stream: the engine says `{}` for it, as a body does."""
    assert MESSAGES.no_arguments == "{}"
    body = blocks_of(body_of(content=[{"type": "tool_use", "id": "id_n", "name": "n", "input": {}}]))
    assert [block.text for block in body] == ["{}"]


def test_a_cut_call_is_not_closed() -> None:
    read = read_of(START, begin(0, "tool_use", id="t", name="n"), part(0, '{"a"'))
    (block,) = blocks_of(read)
    assert read[-1].pieces[-1].kind is PieceKind.STOP
    assert not block.closed


def test_arguments_behind_arguments_are_another_call() -> None:
    read = read_of(
        START,
        begin(0, "tool_use", id="t", name="n", input={"a": 1}),
        part(0, '{"b":2}'),
        stop(0),
        finish(),
        STOP,
    )
    assert [(block.name, json.loads(block.text)) for block in blocks_of(read)] == [
        ("n", {"a": 1}),
        ("n", {"b": 2}),
    ]
    assert len({block.id for block in blocks_of(read)}) == 2


def test_reasons_for_the_unknown_are_given_and_forgotten() -> None:
    reader = MESSAGES.reader(stream=True)
    said = []
    for event in (
        START,
        {"type": "new"},
        begin(0, "new_block"),
        begin(1),
        {**text(1, ""), "delta": {"type": "new"}},
        text(1, "x"),
    ):
        (chunk,) = chunks_of(wire(event), stream=True)
        reader.read(chunk)
        said.append(bool(reader.unknown))
    assert said == [False, True, True, False, True, False]


# -- removal -------------------------------------------------------------------------------------------------------------

HM = [begin(0), text(0, "hm"), stop(0)]
CONTENT = [
    {"type": "text", "text": "hm"},
    *({"type": "tool_use", "id": f"id_{n}", "name": n, "input": {n: 1}} for n in "abc"),
]
INTERLEAVED = [
    *HM, begin(1, "tool_use", id="id_a", name="a"), begin(2, "tool_use", id="id_b", name="b"), part(2, '{"b"'), part(1, '{"a"'),
    begin(3, "tool_use", id="id_c", name="c"), part(3, '{"c": 1}'), part(1, ": 1}"), stop(1), part(2, ": 1}"), stop(2), stop(3),
]  # fmt: skip
ONE_BY_ONE = [
    *HM,
    *call(1, "a", '{"a"', ": 1}"),
    *call(2, "b", '{"b": 1}'),
    *call(3, "c", "", '{"c"', ": 1}"),
]


@pytest.mark.parametrize("names", ["a", "b", "c", "ab", "ac", "bc", "abc"])
@pytest.mark.parametrize("middle", [ONE_BY_ONE, INTERLEAVED], ids=["in turn", "interleaved"])
def test_stream_and_body_lose_the_same_calls(names: str, middle: list[Any]) -> None:
    read = read_of(START, *middle, finish("tool_use"), STOP)
    remove_calls(read, "⛔", only=lambda block: block.name in names)
    raw = write_all(MESSAGES, read, stream=True)
    out = [chunk.data for chunk in chunks_of(raw, stream=True)]
    whole = body_of(content=CONTENT, stop_reason="tool_use")
    remove_calls(whole, "⛔", only=lambda block: block.name in names)
    left = json.loads(write_all(MESSAGES, whole, stream=False))
    kept = [name for name in "abc" if name not in names]
    said = "\n\n".join("⛔" for _ in names)
    assert (
        [[kind, said.replace(" ", "")] for kind, said in map(_block, left["content"])]
        == assembled(out, by_index=True)
        == assembled(out, by_index=False)
    )
    assert assembled(out, by_index=True) == [
        ["text", "hm"],
        ["text", said],
        *(["tool_use", f'{{"{n}":1}}'] for n in kept),
    ]
    assert left["stop_reason"] == out[-2]["delta"]["stop_reason"] == ("tool_use" if kept else "end_turn")
    assert out[-2]["usage"] == {"output_tokens": 9}
    for name in names:
        assert f"id_{name}".encode() not in raw
        assert f'"{name}"' not in json.dumps(out) + json.dumps(left)
    reads(API, raw, stream=True)


SERVER = [
    *call(1, "search", '{"q":"SECRET"}', kind="server_tool_use"),
    {"type": "content_block_start", "index": 2, "content_block": {
        "type": "web_search_tool_result", "tool_use_id": "id_search", "content": [{"type": "web_search_result", "title": "SECRET"}]}},
    stop(2),
]  # fmt: skip


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_removed_server_call_takes_its_result_along(one_by_one: bool) -> None:
    read = read_of(START, *HM, *SERVER, begin(3), text(3, "so"), stop(3), finish(), STOP)
    remove_calls(read, "⛔")
    out = out_of(read, one_by_one=one_by_one)
    assert "SECRET" not in json.dumps(out)
    assert "id_search" not in json.dumps(out)
    texts = [block for block in assembled(out, by_index=True) if block[1]]
    assert [said for _, said in texts] == ["hm", "⛔", "so"]
    assert assembled(out, by_index=False) == assembled(out, by_index=True)


def test_without_words_for_it_a_removed_call_leaves_nothing_at_all() -> None:
    read = read_of(START, *HM, *SERVER, *call(3, "a", "{}"), finish("tool_use"), STOP)
    remove_calls(read, None)
    assert write_all(MESSAGES, read, stream=True) == wire(START, *HM) + wire(
        finish("end_turn"), STOP
    ).replace(b"", b"")


@pytest.mark.parametrize(
    "reason", ["max_tokens", "refusal", "pause_turn", "stop_sequence", "model_context_window_exceeded"]
)
def test_what_upstream_says_of_the_end_stays(reason: str) -> None:
    read = read_of(START, *call(0, "a", "{}"), finish(reason), STOP)
    remove_calls(read)
    whole = body_of(content=CONTENT, stop_reason=reason)
    remove_calls(whole)
    assert (
        out_of(read)[-2]["delta"]["stop_reason"]
        == json.loads(write_all(MESSAGES, whole, stream=False))["stop_reason"]
        == reason
    )


def test_a_server_call_that_is_left_does_not_make_tool_use_true() -> None:
    read = read_of(START, *SERVER, *call(3, "a", "{}"), finish("tool_use"), STOP)
    remove_calls(read, only=lambda block: block.name == "a")
    assert out_of(read)[-2]["delta"]["stop_reason"] == "end_turn"


def test_calls_that_stand_in_message_start_are_removed_as_in_a_body() -> None:
    started = {"type": "message_start", "message": {**MESSAGE, "content": CONTENT, "stop_reason": "tool_use"}}
    read = read_of(started, begin(4), text(4, "hi"), stop(4), STOP)
    remove_calls(read, "⛔")
    out = out_of(read)
    assert out[0]["message"]["content"] == [CONTENT[0], {"type": "text", "text": "⛔\n\n⛔\n\n⛔"}]
    assert out[0]["message"]["stop_reason"] == "end_turn"
    assert [event["index"] for event in out if "index" in event] == [2, 2, 2]


def test_a_call_that_nobody_knows_is_seen_whole_and_removed_whole() -> None:
    read = body_of(content=[{"type": "rocket_call", "id": "r", "payload": {"to": "SECRET"}}])
    (block,) = blocks_of(read)
    assert (block.tool_kind, block.name) == ("unknown", "rocket_call")
    assert "SECRET" in block.text
    remove_calls(read, "⛔")
    assert json.loads(write_all(MESSAGES, read, stream=False))["content"] == [{"type": "text", "text": "⛔"}]


# -- changes -------------------------------------------------------------------------------------------------------------


def change(read: list[ReadChunk], arguments: str, name: str) -> None:
    """As the engine does it."""
    for block in blocks_of(read):
        block.policed = block.changed = True
        block.released, block.new_name = [arguments], name
        pieces = [p for c in read for p in c.pieces if p.block is block and p.kind is PieceKind.DELTA]
        for at, piece in enumerate(pieces):
            piece.out = "" if at else arguments


@pytest.mark.parametrize("fragments", [(), ("",), ('{"a":1}',), ("", '{"a"', ":1}")])
def test_a_changed_call_leaves_changed(fragments: tuple[str, ...]) -> None:
    read = read_of(START, *call(0, "old", *fragments), finish("tool_use"), STOP)
    change(read, '{"b":2}', "new")
    out = out_of(read)
    assert assembled(out, by_index=True) == [["tool_use", '{"b":2}']]
    assert out[1]["content_block"]["name"] == "new"


@pytest.mark.parametrize("given", [{"a": 1}, {}, "text", None])
def test_a_changed_call_of_a_body_leaves_changed(given: Any) -> None:
    read = body_of(content=[{"type": "tool_use", "id": "t", "name": "old", "input": given}])
    change(read, '{"b":2}', "new")
    (block,) = json.loads(write_all(MESSAGES, read, stream=False))["content"]
    assert block["name"] == "new"
    assert block["input"] in ({"b": 2}, '{"b":2}')


def test_arguments_in_a_start_are_json_and_stay_json() -> None:
    read = read_of(
        START, begin(0, "tool_use", id="t", name="n", input={"a": 1}), stop(0), finish("tool_use"), STOP
    )
    assert [json.loads(block.text) for block in blocks_of(read)] == [{"a": 1}]
    change(read, '{"b":2}', "n")
    assert out_of(read)[1]["content_block"]["input"] == {"b": 2}


@pytest.mark.parametrize("arguments", ["[1]", "no json", '{"a":1,"a":2}'])
def test_arguments_that_the_wire_cannot_carry_are_illegal(arguments: str) -> None:
    read = read_of(START, *call(0, "n", "{}"), finish("tool_use"), STOP)
    change(read, arguments, "n")
    with pytest.raises(IllegalOutput):
        write_all(MESSAGES, read, stream=True)


@pytest.mark.parametrize("raw", ['"text":"a\\u00e9"', '"text" : "aé"', '"t\\u0065xt":"aé"', '"text":"aé"'])
def test_text_is_changed_however_upstream_spells_it(raw: str) -> None:
    line = f'{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta",{raw}}}}}'
    body = (
        wire(START, begin(0))
        + canonical(line.encode(), "content_block_delta")
        + wire(stop(0), finish(), STOP)
    )
    read = read_all(MESSAGES, chunks_of(body, stream=True), stream=True)
    rewrite(read, str.upper)
    assert out_of(read)[2]["delta"]["text"] == "AÉ"


def test_a_delta_whose_text_was_taken_away_does_not_leave() -> None:
    read = read_of(START, *HM, finish(), STOP)
    rewrite(read, lambda _: "")
    assert [event["type"] for event in out_of(read)].count("content_block_delta") == 0


# -- grammar -------------------------------------------------------------------------------------------------------------

TOOL = call(0, "n", "{}")


@pytest.mark.parametrize(
    ("before", "made"),
    [
        ([], begin(0)),
        ([START], START),
        ([START], text(0, "x")),
        ([START], stop(0)),
        ([START], STOP),
        ([START], {"type": "brand_new"}),
        ([START, begin(0)], begin(1)),
        ([START, begin(0)], part(0, "{}")),
        ([START, begin(0)], delta(0, "thinking_delta", "x")),
        ([START, begin(0)], finish()),
        ([START, TOOL[0]], text(0, "x")),
        ([START, *TOOL], begin(1)),
        ([START, *TOOL], begin(1, "thinking")),
        ([START, *TOOL], begin(1, "server_tool_use", id="s", name="n")),
        ([START, *HM], begin(1, "thinking")),
        ([START, *HM, finish()], begin(1)),
        ([START, *HM, finish()], finish()),
        ([START, *HM, finish(), STOP], {"type": "ping"}),
    ],
    ids=repr,
)
def test_what_the_grammar_forbids_a_policy_cannot_make(before: list[Any], made: dict[str, Any]) -> None:
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    writer.write(read_of(*before)[: len(before)])
    with pytest.raises(IllegalOutput, match=r"anthropic\.messages"):
        writer.write([ReadChunk(Chunk("data", wire(made), made), ())])


def test_what_a_policy_makes_legally_leaves_under_its_name() -> None:
    made = [START, *HM, *call(1, "n", "{}"), finish("tool_use"), STOP]
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    items = writer.write([ReadChunk(Chunk("data", b"data: {}\n\n", event), ()) for event in made])
    chunks = chunks_of(b"".join(raw for raw, _ in items), stream=True)
    assert [(chunk.event, chunk.data) for chunk in chunks] == [(event["type"], event) for event in made]


def test_a_start_that_a_policy_made_anew_keeps_its_deltas() -> None:
    read = read_of(START, *SERVER[:4], *(dict(e, index=2) for e in HM), finish(), STOP)
    remove_calls(read, None)
    at = next(
        at
        for at, each in enumerate(read)
        if each.chunk.data.get("index") == 2 and "content_block" in each.chunk.data
    )
    data = read[at].chunk.data
    read[at] = ReadChunk(Chunk("data", wire(data), data, data["type"]), ())
    assert ["text", "hm"] in assembled(out_of(read), by_index=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"content": [CONTENT[1], CONTENT[0]]},
        {"content": "x"},
        {"stop_reason": "tool_use"},
        {"usage": None},
    ],
    ids=repr,
)
def test_an_illegal_body_cannot_be_made(fields: dict[str, Any]) -> None:
    data = {**MESSAGE, **fields}
    with pytest.raises(IllegalOutput):
        MESSAGES.writer(stream=False, model="m", call_id="c").write(
            [ReadChunk(Chunk("body", b"{}", data), ())]
        )


# -- ends and errors -----------------------------------------------------------------------------------------------------

TOLD = [
    START,
    begin(0, "thinking"),
    delta(0, "thinking_delta", "t"),
    stop(0),
    begin(1),
    text(1, "hm"),
    stop(1),
    *call(2, "n", '{"a"', ":1}"),
]


@pytest.mark.parametrize("released", range(len(TOLD) + 1))
def test_an_answer_ends_complete_after_any_chunk(released: int) -> None:
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    out = b"".join(raw for raw, _ in writer.write(read_of(*TOLD)[:released])) + writer.end(
        "⛔ no", {"input_tokens": 7}
    )
    left = transcript(out, API, stream=True)
    assert left.complete
    assert left.problems == []
    # Calls that left must be answered.
    assert left.finish == (("tool_use",) if released > 7 else ("end_turn",))
    called = released > 7
    assert left.text.endswith("⛔ no") is not called  # no text may follow a call that has left
    assert left.usage is not None
    assert {"input_tokens", "output_tokens"} <= left.usage.keys()
    reads(API, out, stream=True)


def test_an_answer_of_our_own_has_the_usage_that_clients_need() -> None:
    for stream in (False, True):
        writer = MESSAGES.writer(stream=stream, model="", call_id="c")
        out = writer.end("no", {"input_tokens": 7, "output_tokens": None})
        assert writer.finished
        assert b'"input_tokens":7' in out
        assert b'"output_tokens":0' in out
        reads(API, out, stream=stream)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"), (404, "not_found_error"),
     (413, "request_too_large"), (422, "invalid_request_error"), (429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")],
)  # fmt: skip
def test_errors_have_the_provider_s_shape(status: int, kind: str) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "why"}}
    assert json.loads(MESSAGES.error(status, "code", "why")) == error
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    writer.write(read_of(*TOLD)[:5])
    assert writer.fail(status, "code", "why") == canonical(
        json.dumps(error, separators=(",", ":")).encode(), "error"
    )
    assert writer.finished
    assert writer.end("x", None) == writer.fail(status, "code", "why") == b""


def test_an_error_is_a_failure_with_its_message() -> None:
    error = {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded ✗"},
        "request_id": "req_1",
    }
    for read in (
        read_of(START, error),
        read_all(MESSAGES, chunks_of(json.dumps(error).encode(), stream=False), stream=False),
    ):
        (failed,) = [piece for chunk in read for piece in chunk.pieces if piece.kind is PieceKind.FAILED]
        assert failed.text == "Overloaded ✗"


# -- requests ------------------------------------------------------------------------------------------------------------

REQUEST = (
    b'{ "model":"m", "max_tokens": 100 ,"x":[1.0, "\\u00e9"], "system":[{"type":"text","text":"s"}],\n'
    b' "messages":[{"role":"user","content":"hi"},{"role":"system","content":"s2"}], "stream" : true}'
)


def test_a_request_is_changed_only_where_it_differs() -> None:
    request = MESSAGES.read_request(REQUEST)
    assert request.stream
    assert [each.role for each in request.texts()].count("system") >= 2
    assert MESSAGES.write_request(REQUEST, request, request) == REQUEST
    changed = MESSAGES.write_request(REQUEST, request, request.replace(model="n"))
    assert changed == REQUEST.replace(b'"m"', b'"n"')


@pytest.mark.parametrize(
    "body",
    [b"[]", b'"x"', b"{", b'{"stream":"true"}', b'{"stream":1}', b'{"messages":{}}', b'{"model":1}', b'{"max_tokens":"5"}',
     b'{"tools":{}}', b'{"system":1}', b'{"model":"a","model":"b"}'],
)  # fmt: skip
def test_an_ambiguous_request_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        MESSAGES.read_request(body)


def test_a_null_stream_is_no_stream() -> None:
    assert MESSAGES.read_request(b'{"stream":null,"messages":[]}').stream is False
