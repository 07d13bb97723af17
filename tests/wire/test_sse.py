"""Server-sent events as WHATWG reads them, however they are cut (S01-S13 of the catalogue)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.wire.chunks import StreamDecoder, is_keepalive
from luthien_guard.wire.sse import Frame, SSEDecoder, canonical, comment

CUTS = st.lists(st.integers(1, 9), max_size=40)


def decode(data: bytes, cuts: list[int] | None = None) -> list[Frame]:
    decoder = SSEDecoder()
    frames: list[Frame] = []
    at = 0
    for cut in cuts or []:
        frames += decoder.feed(data[at : at + cut])
        at += cut
    return frames + decoder.feed(data[at:]) + decoder.close()


def data_of(data: bytes) -> list[bytes | None]:
    return [frame.data for frame in decode(data)]


@pytest.mark.parametrize(
    ("wire", "expected", "ambiguous"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"], [False, False]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], [False, False]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"], [True, True]),  # S01
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"], [False, False]),
        (b"data:a\n\n", [b"a"], [False]),  # S02
        (b"data:  a\n\n", [b" a"], [False]),
        (b"data: a\ndata: b\n\n", [b"a\nb"], [True]),  # S03
        (b"data: a", [b"a"], [True]),  # S04
        (b"data: a\n", [b"a"], [True]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"], [True]),  # S05
        ("data: a\u2028b\x0b\x0cc\u0085\n\n".encode(), ["a\u2028b\x0b\x0cc\u0085".encode()], [False]),  # S06
        (b": hello\n\n", [None], [False]),  # S08
        (b"event: x\n\n", [None], [False]),
        (b"data\n\n", [b""], [False]),
        (b"event: a\nevent: b\ndata: x\n\n", [b"x"], [True]),
        (b"DATA: a\n\n", [None], [True]),  # S13
        (b" data: a\n\n", [None], [True]),
    ],
)
def test_frames(wire: bytes, expected: list[bytes | None], ambiguous: list[bool]) -> None:
    frames = decode(wire)
    assert [frame.data for frame in frames] == expected
    assert [frame.ambiguous for frame in frames] == ambiguous


@given(
    st.lists(
        st.sampled_from(
            [b"data: a", b"data:b", b"\n", b"\r", b"\r\n", b":c", b"event: e", b"x", b"\xc3", b"\xa9"]
        ),
        max_size=30,
    ),
    CUTS,
)
def test_any_cut_gives_the_same_frames(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    assert decode(data, cuts) == decode(data)


@given(st.binary(max_size=200), CUTS)
def test_no_byte_is_lost(data: bytes, cuts: list[int]) -> None:
    assert b"".join(frame.raw for frame in decode(data, cuts)) == data


def test_what_is_ignored_is_kept_as_text() -> None:
    (frame,) = decode(b": secret\nid: 7\nretry: 10\nfoo: bar\ndata: x\n\n")
    assert frame.ignored == (b": secret", b"id: 7", b"retry: 10", b"foo: bar")


def test_a_frame_has_a_limit() -> None:
    decoder = SSEDecoder(max_event_bytes=10)
    assert decoder.feed(b"data: 1\n\n" * 100)
    (part,) = decoder.feed(b"data: 12345678")
    assert part.problem == "an event of more than 10 bytes"


@given(
    st.binary(max_size=50).filter(lambda data: b"\n" not in data and b"\r" not in data),
    st.sampled_from([None, "e"]),
)
def test_canonical_frames_are_read_back(data: bytes, event: str | None) -> None:
    (frame,) = decode(canonical(data, event))
    assert (frame.data, frame.event, frame.ambiguous) == (data, event, False)


def test_a_comment_cannot_end_its_line() -> None:
    (frame,) = decode(comment("a\nb\r\n\r\ndata: x"))
    assert frame.data is None


# -- chunks ------------------------------------------------------------------------------------------------------------


def chunks(data: bytes) -> list[tuple[str, bytes, str | None]]:
    decoder = StreamDecoder(max_event_bytes=1000)
    found = [*decoder.feed(data), *decoder.close()]
    return [(chunk.kind, chunk.raw, chunk.event) for chunk in found]


@pytest.mark.parametrize(
    ("wire", "kind", "raw", "event"),
    [
        (b'data: {"a":1}\n\n', "data", b'data: {"a":1}\n\n', None),
        (b'data: {"a":1}\r\r', "data", b'data: {"a":1}\n\n', None),
        (b'data: {"a":\ndata: 1}\n\n', "data", b'data: {"a":1}\n\n', None),
        (
            b'event: ping\ndata: {"type":"ping"}\n\n',
            "data",
            b'event: ping\ndata: {"type":"ping"}\n\n',
            "ping",
        ),
        (b'event: ping\ndata: {"type":"x"}\n\n', "data", b'event: x\ndata: {"type":"x"}\n\n', "x"),  # S09
        (b'event: ping\ndata: {"type":"x\\n"}\n\n', "data", b'data: {"type":"x\\n"}\n\n', None),
        (b'event: ping \ndata: {"type":"ping "}\n\n', "data", b'data: {"type":"ping "}\n\n', None),
        (b'event: ping\t\ndata: {"a":1}\n\n', "data", b'event: ping\ndata: {"a":1}\n\n', "ping"),
        (b'event: ping\ndata: {"type":null}\n\n', "data", b'event: ping\ndata: {"type":null}\n\n', "ping"),
        (b"data: [DONE]\n\n", "done", b"data: [DONE]\n\n", None),
        (b"data: [DONE]x\n\n", "unknown", b"data: [DONE]x\n\n", None),  # S10
        (b"data: {nope\n\n", "unknown", b"data: {nope\n\n", None),
        (b'data: {"a":1,"a":2}\n\n', "unknown", b'data: {"a":1,"a":2}\n\n', None),
        (b": \xff\n\n", "unknown", b": \xff\n\n", None),
        ('data: "a\u2028b\x85"\n\n'.encode(), "data", b'data: "a\\u2028b\\u0085"\n\n', None),  # S06
        (b": hi\n\n", "comment", b": hi\n\n", None),
        (b'data: {"a":1}', "data", b'data: {"a":1}\n\n', None),
    ],
)
def test_chunks(wire: bytes, kind: str, raw: bytes, event: str | None) -> None:
    assert chunks(wire) == [(kind, raw, event)]


def test_a_frame_that_is_too_large_is_unknown_chunks_until_it_ends() -> None:
    decoder = StreamDecoder(max_event_bytes=10)
    chunks = [
        chunk
        for data in (b"data: " + b"x" * 50, b"data: 1\n\n", b"data: 2\n\n")
        for chunk in decoder.feed(data)
    ]
    assert [chunk.kind for chunk in chunks] == ["unknown", "unknown", "data"]
    assert decoder.close() == []


def test_only_known_comments_are_keepalives() -> None:
    assert is_keepalive(": OPENROUTER PROCESSING")
    assert is_keepalive(":")
    assert is_keepalive(": ping - 2026-06-08 18:49:47.737080")
    assert not is_keepalive(": the secret is 42")
    assert not is_keepalive(": pinguin")


def test_a_comment_is_read_in_the_time_that_its_length_takes() -> None:
    assert not is_keepalive(f":{' ' * 1_000_000}x")
    assert not is_keepalive(f":ping{' ' * 1_000_000}x")
    assert is_keepalive(f": ping{' ' * 1_000_000}")
