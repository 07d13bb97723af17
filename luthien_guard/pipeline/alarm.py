"""Who of asyncio's tasks must not wait for longer: one timer for all that wait on a loop.

`asyncio.timeout` makes a timer for each, which costs a chunk that somebody is asked about as much as asking. Nearly all
limits are lifted long before their time, so nothing is looked at before the earliest of those that have been set.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 -- used where it runs, and only there
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final
from weakref import ref

__all__ = ["Limit", "limit", "stop"]

#: Seconds to clean up in; then who has not let go is told once more.
_AGAIN: Final = 1.0
_NEVER: Final = float("inf")


class Limit:
    """Cancels a task when its time is up, and again as long as it does not let go. It may `begin` again once it is lifted."""

    __slots__ = ("_alarm", "_before", "_rang", "task", "when")

    def __init__(self, alarm: _Alarm, task: asyncio.Task[Any]) -> None:
        self.when = _NEVER  # on the loop's clock
        self.task = task
        self._alarm = alarm
        self._before = self._rang = 0

    def begin(self, seconds: float) -> None:
        """For what its task waits for from here on."""
        self._before = self.task.cancelling()
        self._alarm.limits[self] = None
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """It ends so many from now. One that has been lifted stays so: nobody knows what its task does now."""
        self.when = self._alarm.loop.time() + seconds
        self._alarm.look_at(self.when)

    def ring(self) -> None:
        self._rang += 1
        self.task.cancel()

    def lift(self) -> bool:
        """True when it has cancelled the task, and nobody else has."""
        self._alarm.limits.pop(self, None)
        rang, self._rang = self._rang, 0
        for _ in range(rang):
            self.task.uncancel()
        return rang > 0 and self.task.cancelling() <= self._before


class _Alarm:
    """The limits of one loop."""

    __slots__ = ("__weakref__", "_context", "_next", "_timer", "limits", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.limits: dict[Limit, None] = {}
        self._next = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._context = Context()  # nobody's: the timer outlives whoever had it set

    def look_at(self, when: float) -> None:
        """Then at the latest."""
        if when < self._next:
            self._wake_at(when)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._next = when
        if when != _NEVER:
            self._timer = self.loop.call_at(when, self._look, context=self._context)

    def _look(self) -> None:
        now = self.loop.time()
        try:
            for limit in [limit for limit in self.limits if limit.when <= now]:
                limit.when = now + _AGAIN
                limit.ring()
        finally:  # a future of a hook's own kind may not be one to cancel; whoever is left is told at once
            self._wake_at(min([limit.when for limit in self.limits], default=_NEVER))


class _Here(threading.local):
    """Those who wait keep the alarm, and the loop while it has a timer: with a loop that is no more, its alarm goes."""

    alarm: Callable[[], _Alarm | None] = staticmethod(lambda: None)


_here: Final = _Here()


def limit(task: asyncio.Task[Any], seconds: float) -> Limit:
    """For what the task waits for from here on."""
    loop = task.get_loop()
    alarm = _here.alarm()
    if alarm is None or alarm.loop is not loop:
        alarm = _Alarm(loop)
        _here.alarm = ref(alarm)
    made = Limit(alarm, task)
    made.begin(seconds)
    return made


def stop(task: asyncio.Task[Any]) -> None:
    """Cancel it now, and again as long as it does not let go: a hook may take a cancellation for its own failure."""
    ends = limit(task, _AGAIN)
    ends.ring()
    task.add_done_callback(lambda _: ends.lift())
