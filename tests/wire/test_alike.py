"""A frame is like another one only where every parser would say so."""

from __future__ import annotations

import json
import random

import pytest

from luthien_guard.events import Chunk
from luthien_guard.wire.alike import pattern_of
from luthien_guard.wire.chunks import parsed
from luthien_guard.wire.json_text import loads

KNOWN = (
    b'data: {"id":"c1","created":1,"choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}],'
    b'"usage":null,"obfuscation":"aB3"}\n\n'
)
PATH = ("choices", 0, "delta", "content")
pattern = pattern_of(parsed(KNOWN), PATH)
assert pattern is not None


def text_of(frame: bytes) -> str | None:
    assert pattern is not None
    return pattern.text_of(frame)


@pytest.mark.parametrize(
    "inside", [b"x", b" a b", rb"a\nb", rb"say \"hi\"", rb"\\", "dóg 犬 \U0001f600".encode(), b"'"]
)
def test_another_text_is_read_as_the_parser_reads_it(inside: bytes) -> None:
    frame = KNOWN.replace(b"TEXT", inside)
    assert text_of(frame) == loads(b'"' + inside + b'"')


def test_no_text_is_an_empty_one() -> None:
    assert text_of(KNOWN.replace(b"TEXT", b"")) == ""


@pytest.mark.parametrize(
    "frame",
    [
        KNOWN.replace(b"TEXT", rb"\u0041"),
        KNOWN.replace(b"TEXT", rb"\ud800"),
        KNOWN.replace(b"TEXT", rb"\x41"),
        KNOWN.replace(b"TEXT", b"a\nb"),
        KNOWN.replace(b"TEXT", b"a\x00b"),
        KNOWN.replace(b"TEXT", b"\xff"),
        KNOWN.replace(b"TEXT", b"\xed\xa0\x80"),
        KNOWN.replace(b"TEXT", "\u2028".encode()),
        KNOWN.replace(b"TEXT", b"\xc2\x85"),
        KNOWN.replace(b"TEXT", b'a","content":"b'),
        KNOWN.replace(b'"TEXT"', b"null"),
        KNOWN.replace(b"TEXT", b"a\\"),
        KNOWN.replace(b"aB3", b"not an identifier"),
        KNOWN.replace(b"aB3", b"a" * 129),
        KNOWN.replace(b'"aB3"', b'"'),  # its middle and its end in one character
        KNOWN.replace(b"aB3", b'a","b":"c'),
        KNOWN.replace(b'"created":1', b'"created":2'),
        KNOWN.replace(b'"id":"c1"', b'"id":"c2"'),
        KNOWN[:-1],
        KNOWN + b"\n",
        KNOWN + KNOWN,
        KNOWN[:60],
        b"",
    ],
)
def test_anything_else_is_not_alike(frame: bytes) -> None:
    assert text_of(frame) is None


def test_random_damage_is_read_strictly_or_not_at_all() -> None:
    dice = random.Random(7)
    bytes_ = b'\\"\n\r\x00\x1f\x7f\x80\xc2\xe2\xff{}[]:, aZ0'
    taken = 0
    for _ in range(20_000):
        frame = bytearray(KNOWN)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(frame))
            frame[at : at + dice.randint(0, 2)] = bytes(dice.choices(bytes_, k=dice.randint(0, 2)))
        text = text_of(bytes(frame))
        if text is not None:
            taken += 1
            data = loads(bytes(frame)[6:-2])
            assert data["choices"][0]["delta"]["content"] == text
            assert parsed(bytes(frame)).raw == bytes(frame)
    assert taken > 100


@pytest.mark.parametrize(
    "known", [KNOWN, KNOWN.replace(b',"obfuscation":"aB3"', b"")], ids=["filler", "plain"]
)
def test_whatever_is_missing_it_is_read_strictly_or_not_at_all(known: bytes) -> None:
    made = pattern_of(parsed(known), PATH)
    assert made is not None
    for begin in range(len(known)):
        for end in range(begin + 1, len(known) + 1):
            frame = known[:begin] + known[end:]
            text = made.text_of(frame)
            if text is not None:
                assert loads(frame[6:-2])["choices"][0]["delta"]["content"] == text


def test_another_text_is_written_where_the_text_stands() -> None:
    assert pattern is not None
    frame = KNOWN.replace(b"TEXT", rb"a \"b\"").replace(b"aB3", b"zzzz")
    changed = pattern.with_text(frame, 'ö "\u2028"')
    assert changed == frame.replace(rb"a \"b\"", 'ö \\"\\u2028\\"'.encode())
    assert json.loads(changed[6:])["choices"][0]["delta"]["content"] == 'ö "\u2028"'


def test_the_name_of_the_frame_is_part_of_it() -> None:
    frame = b'event: delta\ndata: {"type":"delta","text":"a"}\n\n'
    named = pattern_of(parsed(frame), ("text",))
    assert named is not None
    assert named.text_of(frame.replace(b'"a"', b'"b"')) == "b"
    assert named.text_of(frame.replace(b"event: delta\n", b"")) is None


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"text":"a","inner":{"text":"b"}}\n\n',  # which of the two?
        b'data: {"t\\u0065xt":"a"}\n\n',
        b'data:{"text":"a"}\n\n',
        b'data: {"text":"a"}\r\n\r\n',
        b': hello\ndata: {"text":"a"}\n\n',
        b'id: 7\ndata: {"text":"a"}\n\n',
    ],
)
def test_an_unusual_frame_is_no_pattern(frame: bytes) -> None:
    assert pattern_of(Chunk("data", frame, {"text": "a"}), ("text",)) is None
