"""Streams made to be read in two ways, by cut or by reader, to cost much, or to lose something on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luthien_guard.events import Chunk
from luthien_guard.wire.alike import pattern_of
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder, parsed
from luthien_guard.wire.sse import SSEDecoder, canonical, comment

BOM = b"\xef\xbb\xbf"
LIMIT = 40
Seen = tuple[str, bytes, object, str | None, tuple[str, ...]]


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for cut in cuts:
        yield data[at : at + cut]
        at += cut
    yield data[at:]


def fed(data: bytes, cuts: Sequence[int] = (), *, limit: int = 1000) -> list[Chunk]:
    decoder = StreamDecoder(max_event_bytes=limit)
    return [*(chunk for piece in pieces(data, cuts) for chunk in decoder.feed(piece)), *decoder.close()]


def seen(chunks: Sequence[Chunk]) -> list[Seen]:
    """What is told of the chunks, with those of one event that is too large put together: its pieces are as it was cut."""
    told: list[Seen] = []
    for chunk in chunks:
        is_part = chunk.reason is not None and "more than" in chunk.reason
        if is_part and told and told[-1][0] == "part" and not _ends(told[-1][1]):
            told[-1] = ("part", told[-1][1] + chunk.raw, None, None, ())
        else:
            told.append(
                ("part" if is_part else chunk.kind, chunk.raw, chunk.data, chunk.event, chunk.ignored)
            )
    return told


def _ends(raw: bytes) -> bool:
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").endswith(b"\n\n")


def splitlines(chunks: Sequence[Chunk]) -> list[str]:
    """The lines that a reader with str.splitlines takes for data."""
    lines = b"".join(chunk.raw for chunk in chunks).decode().splitlines()
    return [line for line in lines if line.startswith("data:")]


# -- any cut -----------------------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        b'data: {"a":1}\n\n',
        b'data: {"a":1}',
        b'data: {"text":"' + b"x" * LIMIT + b'"}\n\n',
        b'data: {"text":"' + b"x" * 2 * LIMIT,
        b'data: {"a":"' + b"x" * (LIMIT - 17) + b'"}\n\n',  # as long as it may be
        b'data: {"a":"' + b"x" * (LIMIT - 16) + b'"}\n\n',  # one too long
        b": " + b"x" * LIMIT,
        b"event: e\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        BOM,
        b":c",
        b"\xff",
    ]
)


@given(st.lists(PARTS, max_size=12), st.lists(st.integers(1, 60), max_size=30))
@example([b'data: {"a":1}\n\n', BOM, b'data: {"a":1}\n\n'], [15])
@example([b"x" * 41, b"\n", b"\n", b'data: {"a":1}\n\n'], [41, 1, 1])
@example([b"x" * 41, b"\r\n", b"\r", b"\n", b'data: {"a":1}\n\n'], [42, 1, 1, 1])
def test_any_cut_gives_the_same_verdict_and_every_byte(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    whole = seen(fed(data, limit=LIMIT))
    assert seen(fed(data, cuts, limit=LIMIT)) == whole
    assert seen(fed(data, [1] * len(data), limit=LIMIT)) == whole
    decoder = SSEDecoder(LIMIT)
    frames = [frame for piece in pieces(data, cuts) for frame in decoder.feed(piece)] + decoder.close()
    assert b"".join(frame.raw for frame in frames) == data


def test_only_the_first_bytes_of_a_stream_may_be_a_byte_order_mark() -> None:
    frame = b'data: {"a":1}\n\n'
    for cuts in ((), [len(frame)], [1] * 40):
        first, second = fed(frame + BOM + frame, cuts)
        assert (first.kind, second.kind) == ("data", "comment")
        assert second.ignored == ('\ufeffdata: {"a":1}',)
    (only,) = fed(BOM + frame)
    assert (only.kind, only.raw) == ("data", frame)


@pytest.mark.parametrize("before", [b"", BOM, BOM + b":\n\n"])
def test_what_leaves_never_begins_with_a_byte_order_mark(before: bytes) -> None:
    """The frame before may be dropped: then a client would take the mark for the stream's own, and the rest for data."""
    chunk = fed(before + BOM + BOM + b'data: {"a":1}\n\n')[-1]
    assert not chunk.raw.startswith(BOM)
    assert not chunk.raw.startswith(b"data")
    assert chunk.ignored


# -- size --------------------------------------------------------------------------------------------------------------


def test_an_event_has_a_limit_however_it_is_cut() -> None:
    frame = b'data: {"a":"' + b"x" * 100 + b'"}\n\n'
    for cuts in ((), [1], [10], [LIMIT], [len(frame) - 1], [len(frame) - 2], [1] * len(frame)):
        (large, after) = seen(fed(frame + b"data: 1\n\n", cuts, limit=LIMIT))
        assert large[:2] == ("part", frame)
        assert after[0] == "data"
    assert [chunk.kind for chunk in fed(frame, limit=len(frame))] == ["data"]
    assert [chunk.kind for chunk in fed(frame, limit=len(frame) - 1)] == ["unknown"]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
def test_what_stands_around_an_event_that_is_too_large_is_read(end: bytes) -> None:
    stream = b'data: {"a":1}' + end + b"data: " + b"x" * 90 + end + b'data: {"a":2}' + end
    for size in range(1, len(stream) + 1):
        chunks = fed(stream, [size] * (len(stream) // size), limit=LIMIT)
        assert (chunks[0].kind, chunks[0].data) == ("data", {"a": 1})
        assert (chunks[-1].kind, chunks[-1].data) == ("data", {"a": 2})
        assert {chunk.kind for chunk in chunks[1:-1]} == {"unknown"}
        assert {chunk.reason for chunk in chunks[1:-1]} == {f"an event of more than {LIMIT} bytes"}
        assert b"".join(chunk.raw for chunk in chunks[1:-1]) == b"data: " + b"x" * 90 + end


def test_an_event_that_is_too_large_is_not_kept_but_comes_out_piece_by_piece() -> None:
    decoder = StreamDecoder(max_event_bytes=LIMIT)
    assert decoder.feed(b"data: " + b"x" * 20) == []
    for _ in range(100):
        came = b"".join(chunk.raw for chunk in decoder.feed(b"x" * 30))
        assert came[-30:] == b"x" * 30
        assert not decoder.idle  # what comes is the rest of it, whatever it looks like
    (rest,) = decoder.feed(b'data: {"a":1}\n\n')
    assert (rest.kind, rest.raw) == ("unknown", b'data: {"a":1}\n\n')
    assert decoder.idle


def test_a_body_that_is_too_large_comes_out_whole_and_is_not_kept() -> None:
    body = bytes(range(256)) * 20
    decoder = BodyDecoder(max_bytes=1000)
    chunks: list[Chunk] = []
    for at in range(0, len(body), 100):
        chunks += decoder.feed(body[at : at + 100])
        assert not chunks or chunks[-1].raw.endswith(body[at : at + 100])
    chunks += decoder.close()
    assert {(chunk.kind, chunk.reason) for chunk in chunks} == {("unknown", "a body of more than 1000 bytes")}
    assert b"".join(chunk.raw for chunk in chunks) == body


def test_a_body_that_is_too_large_leaves_in_chunks_that_can_be_held() -> None:
    body = b"x" * 5_000_000
    decoder = BodyDecoder(max_bytes=1_000_000)
    chunks = decoder.feed(body)
    assert b"".join(chunk.raw for chunk in chunks) == body
    assert max(len(chunk.raw) for chunk in chunks) <= 1024 * 1024
    assert decoder.feed(b"") == [] == decoder.close()


def test_frames_alike_are_only_those_of_a_usual_size() -> None:
    """The decoder sees to the others: it knows the limit."""
    frame = b'data: {"a":"TEXT"}\n\n'
    pattern = pattern_of(parsed(frame), ("a",))
    assert pattern is not None
    assert pattern.text_of(frame.replace(b"TEXT", b"x" * 1000)) == "x" * 1000
    assert pattern.text_of(frame.replace(b"TEXT", b"x" * 100_000)) is None
    assert pattern.text_of(frame.replace(b"TEXT", b"\\n" * 100_000)) is None


# -- work --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 512])
def test_a_frame_in_small_pieces_costs_what_it_is_long(end: bytes, size: int) -> None:
    """In the square of its length, this would be minutes."""
    frame = b": x" + end + b'data: {"a":"' + b"x" * (4000 * 1000 if size > 1 else 500_000) + b'"}' + end + end
    decoder = StreamDecoder(max_event_bytes=len(frame))
    chunks = [chunk for at in range(0, len(frame), size) for chunk in decoder.feed(frame[at : at + size])]
    assert [chunk.kind for chunk in [*chunks, *decoder.close()]] == ["data"]


# -- other readers -----------------------------------------------------------------------------------------------------

#: What str.splitlines takes for a line end and SSE does not.
LINE_ENDS = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
EVIL = 'data: {"evil":1}'


@pytest.mark.parametrize("mark", LINE_ENDS)
def test_no_comment_field_or_name_holds_a_line_for_another_reader(mark: str) -> None:
    good = 'data: {"a":1}\n'
    for line in (
        f": x{mark}{EVIL}\n",
        f"id: x{mark}{EVIL}\n",
        f"event: x{mark}{EVIL}\n",
        f"foo: x{mark}{EVIL}\n",
    ):
        for frame in (line + good + "\n", good + line + "\n", line + "\n"):
            chunks = fed(frame.encode())
            assert splitlines(chunks) == ([good[:-1]] if good in frame else [])
            # It is inspected all the same.
            assert any(EVIL in text for chunk in chunks for text in chunk.ignored)


JSON = '{"evil":1}'
LENIENT = [
    *(f"{strips}data: {JSON}" for strips in (" ", "\t", "\u00a0", "\ufeff", "\x00")),
    *(f"{name}: {JSON}" for name in ("Data", "DATA", "data ", "data\t", " Event", "Event")),
    *(JSON, f" [{JSON}]"),
]


@pytest.mark.parametrize("evil", LENIENT, ids=repr)
def test_no_line_that_only_lenient_readers_read_leaves_as_one(evil: str) -> None:
    """They strip lines, or names, or do not mind their case, or take a line that is JSON without any name."""
    good = 'data: {"a":1}\n'
    for before in ("", "foo: x\n", ": x\n", "event: x\n"):
        for after in ("", "id: 7\n", good):
            chunks = fed(f":\n\n{before}{evil}\n{after}\n".encode())
            left = b"".join(chunk.raw for chunk in chunks).decode().splitlines()
            assert [line for line in left if "evil" in line and not line.startswith(": ")] == []
            assert evil in chunks[1].ignored  # it is inspected all the same


@pytest.mark.parametrize(
    "line", ["foo: x", "id: 7", ": data: 1", "metadata: x", "error", "data-x: y", "event_id: 1"]
)
def test_a_line_that_every_reader_skips_stays_as_it_is(line: str) -> None:
    for frame in (f"{line}\n\n", f'{line}\ndata: {{"a":1}}\n\n'):
        assert b"".join(chunk.raw for chunk in fed(frame.encode())) == frame.encode()


@pytest.mark.parametrize("mark", [*LINE_ENDS, "\n", "\r"])
def test_no_type_breaks_out_of_the_name_that_is_made_of_it(mark: str) -> None:
    escaped = f"\\u{ord(mark):04x}"
    frame = f'event: a\ndata: {{"type":"x{escaped}{EVIL[:6]}1"}}\n\n'
    assert len(splitlines(fed(frame.encode()))) == 1
    assert len(canonical(b"1", f"x{mark}data: 2").decode().splitlines()) == 3
    assert len(comment(f"x{mark}data: 2").decode().splitlines()) == 2


@pytest.mark.parametrize(
    "frame",
    [
        b": keep-alive\n\n",
        b': said\nevent: e\nid: 7\ndata: {"type":"e"}\n\n',
        'event: n\u00e4me \u00a0x\ndata: {"a":1}\n\n'.encode(),
        ": caf\u00e9 \u200b\ndata: 1\n\n".encode(),
    ],
)
def test_a_frame_without_such_marks_stays_as_it_is(frame: bytes) -> None:
    assert b"".join(chunk.raw for chunk in fed(frame)) == frame


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_name_that_is_not_utf8_cannot_be_inspected(end: bytes) -> None:
    (chunk,) = fed(b"event: \xff the secret" + end + b'data: {"a":1}' + end + end)
    assert (chunk.kind, chunk.reason) == ("unknown", "bytes that are not UTF-8")


@pytest.mark.parametrize(
    "rest",
    [
        b'data: {"a":1}\n\n',
        b'data: {"a":1}\r\r',
        b'data: {"a":\ndata: 1}\n\n',
        'data: {"a":"\u2028"}\n\n'.encode(),
        b'data: {"a":1}',
    ],
)
def test_a_name_that_says_something_is_inspected_in_every_framing(rest: bytes) -> None:
    chunk = fed(b"event: the secret\n" + rest)[0]
    assert chunk.kind == "data"
    assert "event: the secret" in chunk.ignored
