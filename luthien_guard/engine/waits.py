"""The hooks of an exchange that wait for somebody: until when they may, how long they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from luthien_guard.hooks import HookCall

__all__ = ["TimeLimit", "Wait", "Waits"]


#: Seconds in which a hook whose time is up may clean up.
_LETTING_GO: Final = 5.0


class TimeLimit(Protocol):
    def move(self, seconds: float) -> None:
        """It ends so many from now."""
        ...


class Wait:
    """Of one call: since when, and until when, by the clock of its `Waits`."""

    __slots__ = ("begun", "call", "deadline", "limit")

    def __init__(self, call: HookCall, begun: float, deadline: float) -> None:
        self.call = call
        self.begun = begun
        self.deadline = deadline
        #: Its own, where it has one; else somebody looks after the deadline.
        self.limit: TimeLimit | None = None


class Waits:
    """Made when a hook first waits: in most exchanges none does. `clock` in seconds."""

    __slots__ = ("_clock", "_spent", "_waits")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waits: list[Wait] = []  # a few at most
        self._spent: dict[str, dict[str, float]] = {}

    def spent(self) -> Mapping[str, Mapping[str, float]]:
        """Seconds, by policy and hook, to the microsecond."""
        return {
            name: {hook: round(seconds, 6) for hook, seconds in spent.items()}
            for name, spent in self._spent.items()
        }

    def begin(self, call: HookCall, seconds: float) -> Wait:
        """`call` waits, for so long at the most."""
        now = self._clock()
        wait = Wait(call, now, now + seconds)
        self._waits.append(wait)
        return wait

    def end(self, wait: Wait) -> None:
        self._waits.remove(wait)
        spent = self._spent.setdefault(wait.call.registered.name, {})
        spent[wait.call.hook] = spent.get(wait.call.hook, 0.0) + self._clock() - wait.begun

    def keepalive(self, position: int, seconds: Callable[[HookCall], float]) -> None:
        """What the policy at `position` waits for, and is not late, begins its time anew."""
        now = self._clock()
        for wait in list(self._waits):
            if wait.call.position == position and now < wait.deadline:
                wait.deadline = now + seconds(wait.call)
                if wait.limit is not None:
                    wait.limit.move(seconds(wait.call))

    def deadline(self, position: int) -> float | None:
        """Until when the policy at `position` may wait; None while it does not."""
        own = (wait.deadline for wait in self._waits if wait.call.position == position)
        return max(own, default=None)

    def overdue(self) -> HookCall | None:
        """The call that has run past its deadline, if one has. Those with a time-out of their own count when that has not
        ended them: who holds back an answer and does not let go ends it."""
        if not self._waits:
            return None
        now = self._clock()
        late = (wait.call for wait in self._waits if now >= wait.deadline + _grace(wait))
        return next(late, None)


def _grace(wait: Wait) -> float:
    if wait.limit is None:
        return 0.0
    return _LETTING_GO if wait.call.enforces else float("inf")
