"""An answer's head leaves with the first bytes of its body, and never later than its turn; who reads nothing is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from luthien_guard.cli.http_protocol import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Timer:
    def __init__(self, work: Callable[[], None]) -> None:
        self.work: Callable[[], None] | None = work

    def cancel(self) -> None:
        self.work = None


class Side:
    """The transport's and the loop's part in one."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.later: list[Callable[[], None]] = []
        self.timers: list[Timer] = []
        self.unread = 0
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.written.append(b"closed")

    def abort(self) -> None:
        self.written.append(b"aborted")

    def get_write_buffer_size(self) -> int:
        return self.unread

    def call_soon(self, work: Callable[[], None]) -> None:
        self.later.append(work)

    def call_later(self, seconds: float, work: Callable[[], None]) -> Timer:
        assert seconds == 60
        self.timers.append(Timer(work))
        return self.timers[-1]

    def next_turn(self) -> None:
        while self.later:
            self.later.pop(0)()

    def time_passes(self) -> None:
        due, self.timers = self.timers, []
        for each in due:
            if each.work is not None:
                each.work()


@pytest.fixture
def side() -> Side:
    return Side()


def test_head_and_body_are_one_write(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    joined.write(HEAD)
    joined.write(b"3\r\nabc\r\n")
    joined.write(b"0\r\n\r\n")
    side.next_turn()
    assert side.written == [HEAD + b"3\r\nabc\r\n", b"0\r\n\r\n"]


def test_a_head_alone_waits_for_no_body(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    joined.write(HEAD)
    side.next_turn()
    joined.write(b"late")
    assert side.written == [HEAD, b"late"]


def test_the_end_takes_the_head_along(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    joined.write(HEAD)
    joined.close()
    side.next_turn()
    assert side.written == [HEAD, b"closed"]


def test_a_body_that_looks_like_a_head_keeps_its_place(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    for data in (HEAD, HEAD, b"body", HEAD):
        joined.write(data)
    side.next_turn()
    assert b"".join(side.written) == HEAD + HEAD + b"body" + HEAD


def test_who_reads_something_is_waited_for(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    side.unread = 3
    joined.expect_reading()
    for side.unread in (2, 1):
        side.time_passes()
        assert not side.written
    side.time_passes()
    assert side.written == [b"aborted"]


def test_who_has_read_all_is_asked_for_nothing(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    side.unread = 3
    joined.expect_reading()
    joined.expect_nothing()
    side.time_passes()
    side.unread = 0
    joined.expect_reading()
    assert not side.timers and not side.written


def test_an_end_that_nobody_reads_is_not_kept_for_ever(side: Side) -> None:
    joined = JoinedWrites(side, side, 60)
    side.unread = 3
    joined.close()
    joined.close()
    side.time_passes()
    assert side.written == [b"closed", b"closed", b"aborted"]


def test_an_end_without_anything_unread_is_one(side: Side) -> None:
    JoinedWrites(side, side, 60).close()
    side.time_passes()
    assert side.written == [b"closed"]
