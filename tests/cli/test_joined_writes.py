"""An answer's head leaves with the first bytes of its body, and never later than its turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from luthien_guard.cli.joined_writes import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Side:
    """The transport's and the loop's part in one."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.later: list[Callable[[], None]] = []
        self.limit = 7

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append(b"closed")

    def call_soon(self, work: Callable[[], None]) -> None:
        self.later.append(work)

    def next_turn(self) -> None:
        while self.later:
            self.later.pop(0)()


@pytest.fixture
def side() -> Side:
    return Side()


def test_head_and_body_are_one_write(side: Side) -> None:
    joined = JoinedWrites(side, side)
    joined.write(HEAD)
    joined.write(b"3\r\nabc\r\n")
    joined.write(b"0\r\n\r\n")
    side.next_turn()
    assert side.written == [HEAD + b"3\r\nabc\r\n", b"0\r\n\r\n"]


def test_a_head_alone_waits_for_no_body(side: Side) -> None:
    joined = JoinedWrites(side, side)
    joined.write(HEAD)
    side.next_turn()
    joined.write(b"late")
    assert side.written == [HEAD, b"late"]


def test_the_end_takes_the_head_along(side: Side) -> None:
    joined = JoinedWrites(side, side)
    joined.write(HEAD)
    joined.close()
    side.next_turn()
    assert side.written == [HEAD, b"closed"]


def test_a_body_that_looks_like_a_head_keeps_its_place(side: Side) -> None:
    joined = JoinedWrites(side, side)
    for data in (HEAD, HEAD, b"body", HEAD):
        joined.write(data)
    side.next_turn()
    assert b"".join(side.written) == HEAD + HEAD + b"body" + HEAD


def test_all_else_is_the_transport_s(side: Side) -> None:
    assert JoinedWrites(side, side).limit == 7
