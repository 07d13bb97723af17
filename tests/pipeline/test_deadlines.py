"""When to look again, and what has run out."""

from __future__ import annotations

from luthien_guard.limits import Limits
from luthien_guard.pipeline import Deadlines
from luthien_guard.testing.clock import VirtualClock

LIMITS = Limits(idle_timeout=120, total_timeout=1000, keepalive_interval=15)


def made() -> tuple[VirtualClock, Deadlines]:
    clock = VirtualClock(start=5000)
    return clock, Deadlines(clock, LIMITS)


def test_nothing_is_late_at_the_start() -> None:
    clock, deadlines = made()
    assert deadlines.expired(None) is None
    assert deadlines.wake_at() == clock.now + 15


def test_the_total_counts_from_the_start() -> None:
    clock, deadlines = made()
    clock.now += 1000
    expiry = deadlines.expired(None)
    assert expiry is not None
    assert (expiry.status, expiry.code) == (504, "total_timeout")


def test_a_model_may_think_as_long_as_the_total_allows_before_its_first_word() -> None:
    clock, deadlines = made()
    deadlines.upstream = True
    clock.now += 999
    assert deadlines.expired(None) is None


def test_silence_between_two_chunks_is_idle() -> None:
    clock, deadlines = made()
    deadlines.upstream, deadlines.heard = True, clock.now
    assert deadlines.wake_at() == clock.now + 15
    clock.now += 119.9
    assert deadlines.expired(None) is None
    assert deadlines.wake_at() == deadlines.heard + 120
    clock.now = deadlines.heard + 120
    expiry = deadlines.expired(None)
    assert expiry is not None
    assert expiry.code == "idle_timeout"


def test_upstream_is_not_idle_while_the_client_is_the_slow_one() -> None:
    clock, deadlines = made()
    deadlines.upstream, deadlines.heard = False, clock.now
    clock.now += 500
    assert deadlines.expired(None) is None


def test_an_overdue_hook_comes_first() -> None:
    _, deadlines = made()
    expiry = deadlines.expired("judge.on_content_chunk")
    assert expiry is not None
    assert expiry.code == "policy_timeout"
    assert "judge.on_content_chunk" in expiry.message


def test_hooks_that_wait_are_looked_at_often() -> None:
    clock, deadlines = made()
    deadlines.waiting = 1
    assert deadlines.wake_at() == clock.now + 0.5


def test_a_plan_that_is_soon_enough_stands() -> None:
    clock, deadlines = made()
    assert not deadlines.may_come_before(clock.now + 0.5)
    assert deadlines.may_come_before(clock.now + 1)
    deadlines.broken = True
    assert deadlines.may_come_before(clock.now)


def test_a_keepalive_is_due_once_an_interval_while_bytes_are_held() -> None:
    clock, deadlines = made()
    clock.now += 15
    assert not deadlines.keepalive_due
    deadlines.holding = True
    assert deadlines.keepalive_due
    deadlines.told = clock.now
    assert not deadlines.keepalive_due
    clock.now += 15
    assert deadlines.keepalive_due


def test_a_failure_is_seen_to_at_once() -> None:
    clock, deadlines = made()
    deadlines.broken = True
    assert deadlines.wake_at() == clock.now


def test_nothing_is_late_after_the_end() -> None:
    clock, deadlines = made()
    deadlines.close()
    clock.now += 1e6
    assert deadlines.expired(None) is None
    assert deadlines.wake_at() == float("inf")


def test_a_short_silence_is_noticed_although_nobody_told_of_the_first_word() -> None:
    clock = VirtualClock(start=5000)
    deadlines = Deadlines(clock, Limits(idle_timeout=2, keepalive_interval=15))
    assert deadlines.wake_at() == clock.now + 2


def test_only_the_total_counts_while_the_end_is_on_its_way() -> None:
    clock, deadlines = made()
    deadlines.upstream, deadlines.heard, deadlines.holding = True, clock.now, True
    deadlines.ending()
    clock.now += 999
    assert deadlines.expired(None) is None
    assert not deadlines.keepalive_due
    clock.now += 1
    assert deadlines.expired(None) is not None
