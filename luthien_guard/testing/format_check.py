"""What every wire format must keep (the rules in `wire.format`), checked on your own codec."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from luthien_guard.errors import WireError
from luthien_guard.events import Chunk
from luthien_guard.testing.catalogue import ORDINARY
from luthien_guard.testing.leaks import find_leaks
from luthien_guard.testing.rendering import render
from luthien_guard.testing.requests import request_for
from luthien_guard.testing.script import WIRE_FORMATS
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk, WireFormat, is_identifier

__all__ = ["check_wire_format"]

#: Does not look like an identifier, so it is text wherever it stands.
MARKER = "⚑ marker ⚑"
_MALFORMED = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"nonsense",
    b'{"model":"a","model":"b"}',
    b'{"model":NaN}',
    b'{"model":"\\ud800"}',
    b'{"model":1e400}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{}",
    b"{} {}",
    b'{"a":' * 200 + b"1" + b"}" * 200,
)
_STRANGE: tuple[Any, ...] = ({}, [], None, 0, "text", {"choices": 1}, {"content": {}}, {"output": [None]}, {"type": []},
                             {"choices": [{"delta": {"content": {}}}]}, {"delta": {"text": []}}, {"error": "x"})  # fmt: skip


def check_wire_format(
    format: WireFormat,
    *,
    streams: Sequence[bytes] | None = None,
    bodies: Sequence[bytes] | None = None,
    requests: Sequence[bytes] | None = None,
) -> None:
    """Raises AssertionError, saying which rule is broken and on which sample, unless for every sample:

    * what nobody changed leaves byte for byte, in one piece and chunk by chunk;
    * every string is accounted for: one that is not an identifier becomes a piece, wherever it stands;
    * blocks begin, speak and stop once, in this order, and repeats equal what was said;
    * reading never raises, whatever the JSON;
    * removed calls leave no trace of their arguments, rewritten text no trace of what it was;
    * made-up ends and errors say what they were given and end the stream;
    * requests are read strictly and written back to the byte.

    The samples are SSE streams, whole bodies and request bodies of this format; for the three formats of the library
    they may be left out.
    """
    known = format.name in WIRE_FORMATS
    if not known and not (streams and bodies and requests):
        raise ValueError(f"{format.name} is not one of the library's: give streams, bodies and requests")
    streams = _rendered(format.name, stream=True) if streams is None else streams
    bodies = _rendered(format.name, stream=False) if bodies is None else bodies
    _check_names(format)
    for sample in requests if requests is not None else _requests(format.name):
        _check_request(format, sample)
    _check_malformed(format)
    for samples, stream in ((streams, True), (bodies, False)):
        for sample in samples:
            _check_identity(format, sample, stream=stream)
            _check_blocks(format, sample, stream=stream)
            _check_accounted(format, sample, stream=stream)
            _check_removed(format, sample, stream=stream)
            _check_rewritten(format, sample, stream=stream)
        _check_strange(format, stream=stream)
        _check_ends(format, stream=stream)


def _rendered(name: str, *, stream: bool) -> list[bytes]:
    return [
        render(script, name, stream=stream).body
        for script in ORDINARY.values()
        if name in script.wire_formats
    ]


def _requests(name: str) -> list[bytes]:
    return [
        json.dumps(request_for(name, "Héllo\n", stream=stream), indent=1).encode() for stream in (True, False)
    ]


def _chunks(body: bytes, *, stream: bool) -> list[Chunk]:
    decoder = StreamDecoder(max_event_bytes=1 << 24) if stream else BodyDecoder(max_bytes=1 << 26)
    return [*decoder.feed(body), *decoder.close()]


def _read(format: WireFormat, chunks: Iterable[Chunk], *, stream: bool) -> list[ReadChunk]:
    """Every chunk with its pieces; those of the end hang on a chunk of no bytes."""
    reader = format.reader(stream=stream)
    read = [
        ReadChunk(chunk, reader.read(chunk) if chunk.kind in ("data", "body", "done") else [], at)
        for at, chunk in enumerate(chunks)
    ]
    tail = reader.close()
    return [*read, ReadChunk(Chunk("comment", b""), tail)] if tail else read


def _pieces(read: Iterable[ReadChunk]) -> Iterator[Piece]:
    for each in read:
        yield from each.pieces


def _write(format: WireFormat, read: Sequence[ReadChunk], *, stream: bool) -> bytes:
    writer = format.writer(stream=stream, model="sample", call_id="0199-sample")
    return b"".join(raw for raw, _ in writer.write(read))


# -- the rules ----------------------------------------------------------------------------------------------------------


def _check_names(format: WireFormat) -> None:
    _check(bool(format.name), "the format has no name")
    _check(format.suffix.startswith("/"), f"suffix {format.suffix!r} does not begin with a slash")
    kept = format.keepalive
    _check(not kept or kept.endswith(b"\n\n"), f"the keep-alive {kept!r} is not a whole SSE frame")


def _check_request(format: WireFormat, body: bytes) -> None:
    request = format.read_request(body)
    _check(request.wire_format == format.name, f"the request says it is {request.wire_format!r}")
    same = format.write_request(body, request, request)
    _check(same == body, f"an unchanged request was rewritten:\n  {body[:200]!r}\n  {same[:200]!r}")
    changed = request.replace(model="another-model")
    left = json.loads(format.write_request(body, request, changed))
    wanted = {**json.loads(body), "model": "another-model"}
    _check(left == wanted, f"changing the model changed other things: {left}")


def _check_malformed(format: WireFormat) -> None:
    for body in _MALFORMED:
        try:
            request = format.read_request(body)
        except WireError:
            continue
        raise AssertionError(f"{format.name}: read_request accepts {body[:60]!r} as {request.raw!r}")


def _check_identity(format: WireFormat, body: bytes, *, stream: bool) -> None:
    chunks = _chunks(body, stream=stream)
    read = _read(format, chunks, stream=stream)
    _keep(read)
    whole = _write(format, read, stream=stream)
    _check(whole == body, f"unchanged bytes were changed: {_difference(body, whole)}")
    read = _read(format, chunks, stream=stream)
    _keep(read)
    writer = format.writer(stream=stream, model="sample", call_id="0199-sample")
    singly = b"".join(raw for each in read for raw, _ in writer.write([each]))
    _check(singly == body, f"chunk by chunk, unchanged bytes were changed: {_difference(body, singly)}")


def _keep(read: Iterable[ReadChunk]) -> None:
    """Decide as the engine does when nobody objects."""
    for piece in _pieces(read):
        if piece.kind is PieceKind.DELTA and piece.block is not None:
            piece.block.released.append(piece.text)


def _check_blocks(format: WireFormat, body: bytes, *, stream: bool) -> None:
    said: dict[int, list[str]] = {}
    stopped: set[int] = set()
    alive: list[Block] = []  # keeps ids unique
    for piece in _pieces(_read(format, _chunks(body, stream=stream), stream=stream)):
        block = piece.block
        if block is None:
            continue
        alive.append(block)
        key = id(block)
        if piece.kind is PieceKind.START:
            _check(key not in said, f"a block starts twice: {piece}")
            said[key] = []
        elif piece.kind is PieceKind.DELTA:
            _check(key in said, f"a delta before its block's start: {piece}")
            _check(key not in stopped, f"a delta after its block's stop: {piece}")
            said[key].append(piece.text)
        elif piece.kind is PieceKind.STOP:
            _check(key in said and key not in stopped, f"a stop without a start, or a second one: {piece}")
            stopped.add(key)
        elif piece.kind is PieceKind.ECHO:
            _check(piece.text == "".join(said.get(key, [])), f"an echo says other than its block: {piece}")
    for block in alive:
        _check(
            block.text == "".join(said[id(block)]),
            f"block.source is not what the deltas said: {block.text!r}",
        )
        _check(id(block) in stopped, f"a block never stops: {block.text!r}")


def _check_accounted(format: WireFormat, body: bytes, *, stream: bool) -> None:
    """Put a marker in the place of each string, one after the other: some piece must show it."""
    chunks = _chunks(body, stream=stream)
    for at, chunk in enumerate(chunks):
        for path in _string_paths(chunk.data):
            marked = _with(chunk.data, path, MARKER)
            changed = [*chunks[:at], _rebuilt(chunk, marked), *chunks[at + 1 :]]
            pieces = list(_pieces(_read(format, changed, stream=stream)))
            shown = any(map(_shows, pieces))
            _check(shown, f"the string at {path} of {_short(chunk.data)} can say anything: no piece shows it")
        if isinstance(chunk.data, dict):
            marked = {**chunk.data, "x_future": {"deep": [MARKER]}}
            changed = [*chunks[:at], _rebuilt(chunk, marked), *chunks[at + 1 :]]
            shown = any(map(_shows, _pieces(_read(format, changed, stream=stream))))
            _check(shown, f"an unknown field of {_short(chunk.data)} can say anything: no piece shows it")


def _shows(piece: Piece) -> bool:
    """A policy can see the marker: as text, or as the name or id of a call."""
    said = (piece.text, str(piece.value), *((piece.block.name, piece.block.id) if piece.block else ()))
    return any(MARKER in each for each in said)


def _check_removed(format: WireFormat, body: bytes, *, stream: bool) -> None:
    read = _read(format, _chunks(body, stream=stream), stream=stream)
    calls: list[Block] = []
    for piece in _pieces(read):
        block = piece.block
        if block is not None and block.kind == "call":
            block.removed, block.replacement = True, "removed by the check"
            calls.append(block)
    secrets = {text for block in calls if (text := block.text) and len(text) > 4 and not is_identifier(text)}
    _keep(read)
    left = _write(format, read, stream=stream)
    for text in secrets:
        places = find_leaks(left, text)
        _check(not places, f"the arguments {text!r} of a removed call left in {', '.join(places[:3])}")
    if calls:
        _check(bool(find_leaks(left, "removed by the check")), "the words for a removed call did not leave")


def _check_rewritten(format: WireFormat, body: bytes, *, stream: bool) -> None:
    read = _read(format, _chunks(body, stream=stream), stream=stream)
    rewritten: list[Block] = []
    for piece in _pieces(read):
        block = piece.block
        if block is None or piece.kind is not PieceKind.DELTA:
            continue
        if block.kind == "text" and block.writable and block.channel == "content" and piece.text:
            piece.out, block.changed = "X" * len(piece.text), True
            rewritten.append(block)
        block.released.append(piece.text if piece.out is None else piece.out)
    for piece in _pieces(read):
        if piece.kind is PieceKind.ECHO and piece.block is not None and piece.block.changed:
            piece.out = piece.block.released_text
    left = _write(format, read, stream=stream)
    for block in rewritten:
        text = block.text
        _check(
            bool(find_leaks(left, block.released_text)),
            f"the rewritten text {block.released_text!r} did not leave",
        )
        if len(text.strip()) > 4:
            places = find_leaks(left, text)
            _check(
                not places,
                f"the text {text!r} was rewritten and left all the same in {', '.join(places[:3])}",
            )


def _check_strange(format: WireFormat, *, stream: bool) -> None:
    for value in _STRANGE:
        for kind in (None, *_TYPES):
            data = {**value, "type": kind} if isinstance(value, dict) and kind else value
            raw = json.dumps(data).encode()
            chunk = Chunk("data", b"data: " + raw + b"\n\n", data) if stream else Chunk("body", raw, data)
            try:
                _read(format, [chunk, chunk], stream=stream)
            except Exception as error:
                raise AssertionError(f"{format.name}: reading {data!r} raised {error!r}") from error


_TYPES = (
    "message",
    "message_start",
    "content_block_delta",
    "response.completed",
    "response.output_item.done",
    "x",
)


def _check_ends(format: WireFormat, *, stream: bool) -> None:
    say = "Blocked — by the check."
    made: list[tuple[str, Callable[[], bytes]]] = [
        ("end", lambda: _writer(format, stream).end(say, {})),
        ("error", lambda: format.error(400, "invalid_request", say)),
    ]
    if stream:
        made.append(("fail", lambda: _writer(format, stream).fail(502, "upstream_error", say)))
    for name, make in made:
        _check(bool(find_leaks(make(), say)), f"{name}() does not say what it was given")
    writer = _writer(format, stream)
    body = writer.end(say, None)
    _check(writer.finished, "after end() the writer is not finished")
    _keep(read := _read(format, _chunks(body, stream=stream), stream=stream))
    again = _write(format, read, stream=stream)
    _check(again == body, f"the format does not read what it makes up: {_difference(body, again)}")


def _writer(format: WireFormat, stream: bool) -> Any:
    return format.writer(stream=stream, model="sample", call_id="0199-sample")


# -- places in JSON -----------------------------------------------------------------------------------------------------


def _string_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield path
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _string_paths(item, (*path, at))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _string_paths(item, (*path, key))


def _with(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    changed = copy.deepcopy(value)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = text
    return changed


def _rebuilt(chunk: Chunk, data: Any) -> Chunk:
    raw = json.dumps(data, ensure_ascii=False).encode()
    name = f"event: {chunk.event}\n".encode() if chunk.event else b""
    return chunk.replace(data=data, raw=raw if chunk.kind == "body" else name + b"data: " + raw + b"\n\n")


def _difference(came: bytes, left: bytes) -> str:
    at = next(
        (at for at, (a, b) in enumerate(zip(came, left, strict=False)) if a != b), min(len(came), len(left))
    )
    around = slice(max(at - 40, 0), at + 40)
    return f"at byte {at}: {came[around]!r} became {left[around]!r}"


def _short(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)[:120]


def _check(true: bool, message: str) -> None:
    if not true:
        raise AssertionError(message)
