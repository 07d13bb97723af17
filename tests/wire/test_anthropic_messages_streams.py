"""anthropic.messages where upstream breaks the rules: nothing raises, nothing goes unseen, and clients that append and
clients that go by the index assemble what the policies saw."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthien_guard.errors import IllegalOutput, MalformedBody
from luthien_guard.events import Chunk
from luthien_guard.wire.format import PieceKind, ReadChunk
from luthien_guard.wire.messages import MESSAGES
from luthien_guard.wire.messages.blocks import Place
from luthien_guard.wire.sse import canonical
from tests.official_sdks import reads
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, rewrite, write_all

NAME = "anthropic.messages"
USAGE = {"input_tokens": 1, "output_tokens": 2}
START = {
    "type": "message_start",
    "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": USAGE,
    },
}  # fmt: skip
STOP = {"type": "message_stop"}


def finish(reason: str = "end_turn") -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 2},
    }


def begin(index: Any, kind: str = "text", **fields: Any) -> dict[str, Any]:
    inner: dict[str, Any] = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}.get(
        kind, {"input": {}}
    )
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **inner, **fields}}


def text(index: Any, value: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": value}}


def thought(index: Any, value: str) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "thinking_delta", "thinking": value},
    }


def part(index: Any, value: str) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "input_json_delta", "partial_json": value},
    }


def stop(index: Any) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def call(
    index: int, name: str, arguments: str, *, kind: str = "tool_use", id: str = ""
) -> list[dict[str, Any]]:
    return [begin(index, kind, id=id or f"toolu_{name}", name=name), part(index, arguments), stop(index)]


def wire(*events: Any) -> bytes:
    return b"".join(
        canonical(json.dumps(each, ensure_ascii=False).encode(), each.get("type")) for each in events
    )


def read_of(*events: Any) -> list[ReadChunk]:
    return read_all(MESSAGES, chunks_of(wire(*events), stream=True), stream=True)


def out_of(read: list[ReadChunk], **how: Any) -> list[Any]:
    return [chunk.data for chunk in chunks_of(write_all(MESSAGES, read, stream=True, **how), stream=True)]


# -- two clients -------------------------------------------------------------------------------------------------------

FIELDS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "tool_use"),
}


def _grow(block: list[str], delta: dict[str, Any]) -> None:
    field, kind = FIELDS.get(delta["type"], ("", ""))
    if kind == block[0]:
        block[1] += delta[field]


def appending(events: list[Any]) -> list[list[str]]:
    """As the Python SDK: a start appends, a delta goes to the list's element."""
    content: list[list[str]] = []
    for event in events:
        if event["type"] == "content_block_start":
            content.append(_whole(event["content_block"]))
        elif event["type"] == "content_block_delta":
            _grow(content[event["index"]], event["delta"])
    return content


def indexing(events: list[Any]) -> list[list[str]]:
    """As others: a dictionary by the index."""
    content: dict[Any, list[str]] = {}
    for event in events:
        if event["type"] == "content_block_start":
            content[event["index"]] = _whole(event["content_block"])
        elif event["type"] == "content_block_delta":
            _grow(content[event["index"]], event["delta"])
    return list(content.values())


def _whole(raw: dict[str, Any]) -> list[str]:
    kind = raw["type"]
    arguments = json.dumps(raw["input"], separators=(",", ":")) if raw.get("input") else ""
    return [kind, raw.get("text", "") or raw.get("thinking", "") or arguments]


def seen(read: list[ReadChunk]) -> list[list[str]]:
    kinds = {"content": "text", "reasoning": "thinking"}
    blocks = [block for block in blocks_of(read) if isinstance(block.codec, Place)]
    return [["tool_use" if b.kind == "call" else kinds[b.channel], b.text] for b in blocks if not b.removed]


indices = st.sampled_from([0, 1, 2, 7, -1, 2**70, None, "0", 1.0, True, [0]])
words = st.sampled_from(["a", "bad", "word", "✗", '{"a":', "1}", ""])
events = st.one_of(
    st.builds(begin, indices, st.sampled_from(["text", "thinking"])),
    st.builds(lambda i, t: begin(i, "text", text=t), indices, words),
    st.builds(
        lambda i, x: begin(i, "tool_use", id="t", name="n", input=x), indices, st.sampled_from([{}, {"a": 1}])
    ),
    st.builds(text, indices, words),
    st.builds(thought, indices, words),
    st.builds(part, indices, words),
    st.builds(stop, indices),
    st.just({"type": "ping"}),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(events, max_size=12), st.booleans())
def test_every_client_assembles_what_the_policies_saw(middle: list[Any], one_by_one: bool) -> None:
    read = read_of(START, *middle, finish(), STOP)
    out = out_of(read, one_by_one=one_by_one)
    assert appending(out) == indexing(out) == seen(read)


@settings(max_examples=400, deadline=None)
@given(st.lists(events, max_size=12))
def test_of_removed_calls_nothing_is_left_whatever_upstream_does(middle: list[Any]) -> None:
    read = read_of(START, *middle, finish("tool_use"), STOP)
    remove_calls(read, "⛔")
    out = out_of(read)
    texts = [block for block in appending(out) if block != ["text", "⛔"] and block[1] != "⛔\n\n⛔"]
    assert appending(out) == indexing(out)
    assert all(kind != "tool_use" for kind, _ in texts)
    assert [each for each in texts if "⛔" not in each[1]] == seen(read)


@settings(max_examples=400, deadline=None)
@given(st.lists(events, max_size=12), st.integers(0, 14))
def test_the_answer_ends_whatever_upstream_did(middle: list[Any], k: int) -> None:
    read = read_of(START, *middle, finish(), STOP)
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    out = b"".join(raw for raw, _ in writer.write(read[:k])) + writer.end("⛔", None)
    left = [chunk.data for chunk in chunks_of(out, stream=True)]
    assert writer.finished
    assert left[-1] == STOP
    assert [each["type"] for each in left].count("message_delta") == 1


values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["text", "tool_use", "t"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["type", "index", "delta", "content_block", "message", "content", "text", "input", "name", "id", "citation",
                 "citations", "usage", "stop_reason", "error", "partial_json", "thinking", "✗"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip
kinds = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]
)


def every_string(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for inner in value.values() for s in every_string(inner)]
    if isinstance(value, list):
        return [s for inner in value for s in every_string(inner)]
    return [value] if isinstance(value, str) and value else []


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(kinds, st.dictionaries(st.sampled_from(["index", "delta", "content_block", "message", "error", "usage", "x"]), values, max_size=4)), max_size=4))  # fmt: skip
def test_no_json_makes_the_reader_raise_or_look_away(made: list[tuple[str, dict[str, Any]]]) -> None:
    sent = [{**data, "type": kind} for kind, data in made]
    read = read_of(*sent)
    for event, chunk in zip(sent, read, strict=False):
        found = "\n".join(piece.text for piece in chunk.pieces)
        for string in every_string(event):
            assert string in found or json.dumps(string)[1:-1] in found or string.isascii()
    write_all(MESSAGES, read, stream=True)


@settings(max_examples=300, deadline=None)
@given(values)
def test_no_body_makes_the_reader_raise_or_look_away(value: Any) -> None:
    body = json.dumps(value, ensure_ascii=False).encode()
    read = read_all(MESSAGES, chunks_of(body, stream=False), stream=False)
    found = "\n".join(piece.text for chunk in read for piece in chunk.pieces)
    assert all(s in found or json.dumps(s)[1:-1] in found or s.isascii() for s in every_string(value))
    if not (isinstance(value, dict) and isinstance(value.get("content"), dict)):
        assert write_all(MESSAGES, read, stream=False) == body


# -- removal -----------------------------------------------------------------------------------------------------------

SERVER = [
    *call(1, "search", '{"q":"SECRET"}', kind="server_tool_use", id="srv_1"),
    {"type": "content_block_start", "index": 2, "content_block": {
        "type": "web_search_tool_result", "tool_use_id": "srv_1",
        "content": [{"type": "web_search_result", "title": "SECRET", "url": "u", "encrypted_content": "SECRET"}]}},
    stop(2),
]  # fmt: skip


def test_a_removed_server_call_takes_its_result_along() -> None:
    read = read_of(
        START, begin(0), text(0, "hm"), stop(0), *SERVER, begin(3), text(3, "so"), stop(3), finish(), STOP
    )
    remove_calls(read, "⛔")
    for one_by_one in (False, True):
        out = out_of(read, one_by_one=one_by_one)
        assert "SECRET" not in json.dumps(out)
        assert "srv_1" not in json.dumps(out)
        assert appending(out) == indexing(out) == [["text", "hm"], ["text", "⛔"], ["text", "so"]]


def test_a_kept_server_call_does_not_make_tool_use_true() -> None:
    read = read_of(START, *SERVER, *call(3, "rm", "{}"), finish("tool_use"), STOP)
    remove_calls(read, "⛔", only=lambda block: block.name == "rm")
    assert out_of(read)[-2]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "pause_turn", "stop_sequence"])
def test_what_upstream_says_of_the_end_stays(reason: str) -> None:
    read = read_of(START, *call(0, "rm", "{}"), finish(reason), STOP)
    remove_calls(read)
    assert out_of(read)[-2]["delta"]["stop_reason"] == reason


@pytest.mark.parametrize("which", [{"a"}, {"b"}, {"c"}, {"a", "c"}, {"a", "b"}, {"a", "b", "c"}])
def test_explanations_come_before_the_first_call(which: set[str]) -> None:
    calls = [event for at, name in enumerate("abc") for event in call(at + 1, name, f'{{"{name}":1}}')]
    read = read_of(START, begin(0), text(0, "hm"), stop(0), *calls, finish("tool_use"), STOP)
    remove_calls(read, "⛔", only=lambda block: block.name in which)
    out = out_of(read)
    said = "\n\n".join("⛔" for _ in which)
    kept = [["tool_use", f'{{"{name}":1}}'] for name in "abc" if name not in which]
    assert appending(out) == indexing(out) == [["text", "hm"], ["text", said], *kept]
    body = {**START["message"], "content": [{"type": "text", "text": "hm"}], "stop_reason": "tool_use"}
    body["content"] += [{"type": "tool_use", "id": f"toolu_{n}", "name": n, "input": {n: 1}} for n in "abc"]
    whole = read_all(MESSAGES, chunks_of(json.dumps(body).encode(), stream=False), stream=False)
    remove_calls(whole, "⛔", only=lambda block: block.name in which)
    left = json.loads(write_all(MESSAGES, whole, stream=False))
    assert [_whole(raw) for raw in left["content"]] == appending(out)
    assert (
        left["stop_reason"]
        == out[-2]["delta"]["stop_reason"]
        == ("end_turn" if len(which) == 3 else "tool_use")
    )


@pytest.mark.parametrize("kind", ["server_tool_use", "mcp_tool_use", "zork_call"])
def test_behind_a_call_of_the_clients_every_explanation_comes_before_it(kind: str) -> None:
    calls = [*call(0, "a", '{"a":1}'), *call(1, "b", '{"b":1}', kind=kind)]
    read = read_of(START, *calls, finish("tool_use"), STOP)
    remove_calls(read, "⛔", only=lambda block: block.name == "b")
    assert appending(out_of(read)) == [["text", "⛔"], ["tool_use", '{"a":1}']]
    body = {**START["message"], "stop_reason": "tool_use", "content": [
        {"type": each, "id": name, "name": name, "input": {name: 1}}
        for each, name in (("tool_use", "a"), (kind, "b"))
    ]}  # fmt: skip
    whole = read_all(MESSAGES, chunks_of(json.dumps(body).encode(), stream=False), stream=False)
    remove_calls(whole, "⛔", only=lambda block: block.name == "b")
    left = json.loads(write_all(MESSAGES, whole, stream=False))["content"]
    assert [_whole(raw) for raw in left] == [["text", "⛔"], ["tool_use", '{"a":1}']]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use"])
def test_what_was_removed_beside_a_call_is_explained_with_it(kind: str) -> None:
    begun, *rest = call(0, "a", '{"a":1}', kind=kind)
    strange = {"type": "content_block_delta", "index": 0, "delta": {"type": "x_delta", "x": "bad"}}
    read = read_of(START, begun, strange, *rest, finish(), STOP)
    remove_calls(read, "⛔", only=lambda block: "bad" in block.text)
    first, second = appending(out_of(read))
    assert (first, second[0]) == (["text", "⛔"], kind)


def test_a_changed_call_without_arguments_gets_them() -> None:
    read = read_of(START, begin(0, "tool_use", id="t", name="n"), stop(0), finish("tool_use"), STOP)
    (block,) = blocks_of(read)
    block.policed, block.changed, block.released = True, True, ['{"a":1}']
    assert appending(out_of(read)) == [["tool_use", '{"a":1}']]


def test_arguments_that_no_client_could_parse_are_illegal() -> None:
    read = read_of(START, *call(0, "n", '{"a":1}'), finish("tool_use"), STOP)
    (block,) = blocks_of(read)
    block.policed, block.changed, block.released = True, True, ["[1]"]
    for chunk in read:
        for piece in chunk.pieces:
            piece.out = "[1]" if piece.kind is PieceKind.DELTA else None
    with pytest.raises(IllegalOutput):
        write_all(MESSAGES, read, stream=True)


def test_calls_in_message_start_are_removed_as_in_a_body() -> None:
    started = json.loads(json.dumps(START))
    started["message"]["content"] = [
        {"type": "tool_use", "id": "toolu_9", "name": "SECRET", "input": {"a": "SECRET"}}
    ]
    read = read_of(started, begin(1), text(1, "hi"), stop(1), finish("tool_use"), STOP)
    remove_calls(read, "⛔")
    out = out_of(read)
    assert "SECRET" not in json.dumps(out)
    assert "toolu_9" not in json.dumps(out)
    assert out[0]["message"]["content"] == [{"type": "text", "text": "⛔"}]
    assert [each["index"] for each in out if "index" in each] == [1, 1, 1]
    assert out[-2]["delta"]["stop_reason"] == "end_turn"


# -- grammar -----------------------------------------------------------------------------------------------------------


def test_a_policy_may_make_what_is_legal_and_the_frame_is_named() -> None:
    made = [START, begin(0), text(0, "hi"), stop(0), *call(1, "n", "{}"), finish("tool_use"), STOP]
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    items = writer.write([ReadChunk(Chunk("data", b"data: {}\n\n", each), ()) for each in made])
    assert b"".join(raw for raw, _ in items) == b"".join(
        canonical(json.dumps(each, separators=(",", ":")).encode(), each["type"]) for each in made
    )


# -- ends, errors ------------------------------------------------------------------------------------------------------


def test_an_answer_of_our_own_is_whole() -> None:
    for stream in (False, True):
        writer = MESSAGES.writer(stream=stream, model="", call_id="c")
        out = writer.end("⛔ no", None)
        assert writer.finished
        found = reads(NAME, out, stream=stream)
        assert found
        if not stream:
            assert (found[0].content[0].text, found[0].stop_reason, found[0].usage.input_tokens) == (
                "⛔ no",
                "end_turn",
                0,
            )


def test_the_last_usage_that_is_known_is_said() -> None:
    writer = MESSAGES.writer(stream=True, model="m", call_id="c")
    out = [
        chunk.data
        for chunk in chunks_of(writer.end("no", {"input_tokens": 7, "output_tokens": 5}), stream=True)
    ]
    assert out[0]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 5}
    assert out[-2]["usage"] == {"output_tokens": 5}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 451, 500, 529])
def test_errors_have_the_shape_of_the_provider(status: int) -> None:
    body = json.loads(MESSAGES.error(status, "code", "why"))
    assert (body["type"], body["error"]["message"]) == ("error", "why")
    assert body["error"]["type"].endswith("_error") or status == 413
    for stream in (False, True):
        writer = MESSAGES.writer(stream=stream, model="m", call_id="c")
        out = writer.fail(status, "code", "why")
        assert writer.finished
        assert writer.fail(status, "code", "why") == writer.end("x", None) == b""
        assert (chunks_of(out, stream=True)[0].data if stream else json.loads(out)) == body
        assert not stream or out.startswith(b"event: error\n")


def test_an_error_beside_a_content_hides_no_call() -> None:
    body = {
        **START["message"],
        "error": {"type": "x"},
        "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}}],
    }
    read = read_all(MESSAGES, chunks_of(json.dumps(body).encode(), stream=False), stream=False)
    assert [block.name for block in blocks_of(read)] == ["n"]


def test_text_stays_upper_where_every_rule_is_broken() -> None:
    read = read_of(START, begin(4), text(4, "a"), text(0, "b"), stop(4), text(4, "c"), finish(), STOP)
    rewrite(read, str.upper)
    keep_calls(read)
    assert appending(out_of(read)) == [["text", "A"], ["text", "B"], ["text", "C"]]


TRICKS = [
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","te\\u0078t":"secret"},"x":{"text":"secret"}}',
    b'{"type":"content_block_delta","index":0,"x":"text","delta":{"type":"text_delta","text":"\\u0073ecret"}}',
    b'{"delta":{"text" : "secret","type":"text_delta"},"index": 0 ,"type":"content_block_delta"}',
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\"text\\":secret"}}',
]


@pytest.mark.parametrize("trick", TRICKS)
def test_the_place_that_was_decided_is_the_place_that_changes(trick: bytes) -> None:
    body = (
        wire(START, begin(0))
        + b"event: content_block_delta\ndata: "
        + trick
        + b"\n\n"
        + wire(stop(0), finish(), STOP)
    )
    read = read_all(MESSAGES, chunks_of(body, stream=True), stream=True)
    rewrite(read, lambda _: "gone \u2028 ✓")
    out = write_all(MESSAGES, read, stream=True)
    data = [chunk.data for chunk in chunks_of(out, stream=True)]
    assert appending(data) == [["text", "gone \u2028 ✓"]]
    assert data[2].get("x") == json.loads(trick).get("x")


@pytest.mark.parametrize("stream", ['"true"', "1", "[]", '"false"', "0", "{}"])
def test_a_request_whose_stream_is_no_bool_is_refused(stream: str) -> None:
    with pytest.raises(MalformedBody):
        MESSAGES.read_request(f'{{"model":"m","messages":[],"stream":{stream}}}'.encode())


@pytest.mark.parametrize(
    "body", ["[]", "1", '{"messages":{}}', '{"model":1}', '{"max_tokens":true}', '{"a":1,"a":2}', "{"]
)
def test_a_request_of_the_wrong_shape_is_refused(body: str) -> None:
    with pytest.raises(MalformedBody):
        MESSAGES.read_request(body.encode())


def test_a_request_changes_only_where_it_was_changed() -> None:
    body = b'{ "model" : "m",\t"max_tokens":1e3, "x":[1.0, "\\u00e9"], "stream":null ,"messages":[{"role":"system","content":"s"}]}'
    body = body.replace(b"1e3", b"9")
    request = MESSAGES.read_request(body)
    assert not request.stream
    assert MESSAGES.write_request(body, request, request) == body
    changed = MESSAGES.write_request(body, request, request.replace(model="other"))
    assert changed == body.replace(b'"m"', b'"other"')
