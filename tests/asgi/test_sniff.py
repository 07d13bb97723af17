"""J09, J13: the bytes say what a response is."""

from __future__ import annotations

import pytest

from luthien_guard.asgi.sniff import is_event_stream, says_event_stream


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    "head",
    [b"data: {}", b"data:{}", b"event: x\n", b": ping\n\n", b"id: 1\n", b"retry: 5\n", b"\xef\xbb\xbfdata: x",
     b"\r\n\r\ndata: x", b"data\n", b"event:"],
)  # fmt: skip
def test_events_under_any_label(head: bytes, labelled: bool) -> None:
    assert is_event_stream(head, labelled=labelled, last=False) is True


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("head", [b'{"a"', b"[1", b'"text"', b'\n  {"a": "data: x"}', b"{\ndata: {}\n\n"])
def test_json_under_any_label(head: bytes, labelled: bool) -> None:
    assert is_event_stream(head, labelled=labelled, last=False) is False


@pytest.mark.parametrize(
    "head", [b"", b" ", b"\n", b"d", b"da", b"dat", b"data", b"e", b"ev", b"i", b"id", b"retr"]
)
def test_too_little_to_say(head: bytes) -> None:
    assert is_event_stream(head, labelled=False, last=False) is None
    assert is_event_stream(head, labelled=False, last=True) in (True, False)


@pytest.mark.parametrize("head", [b"<html>", b"hello", b"database", b"\x1f\x8b", b"\xff\xfe{"])
def test_neither_goes_by_its_label(head: bytes) -> None:
    assert is_event_stream(head, labelled=True, last=False) is True
    assert is_event_stream(head, labelled=False, last=False) is False


def test_endless_blanks_are_not_waited_for() -> None:
    assert is_event_stream(b" " * 70_000, labelled=True, last=False) is True


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_labels(label: bytes, expected: bool) -> None:
    assert says_event_stream(label) is expected
