"""The hooks of an exchange that wait for somebody: until when they may, how long they did."""

from __future__ import annotations

from collections.abc import Callable

from luthien_guard.registry import HookCall

__all__ = ["Waits"]


class _Wait:
    __slots__ = ("anew", "begun", "call", "deadline")

    def __init__(
        self, call: HookCall, begun: float, deadline: float, anew: Callable[[], None] | None
    ) -> None:
        self.call = call
        self.begun = begun
        self.deadline = deadline
        #: Starts its time-out again, where it has one of its own; else somebody looks after the deadline.
        self.anew = anew


class Waits:
    """Made when a hook first waits: in most exchanges none does. `clock` in seconds."""

    __slots__ = ("_clock", "_waits", "spent")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waits: dict[object, _Wait] = {}
        self.spent: dict[str, dict[str, float]] = {}  # seconds, by policy and hook

    def begin(
        self, key: object, call: HookCall, seconds: float, anew: Callable[[], None] | None = None
    ) -> None:
        """`call` waits, for so long at the most."""
        now = self._clock()
        self._waits[key] = _Wait(call, now, now + seconds, anew)

    def end(self, key: object) -> None:
        wait = self._waits.pop(key, None)
        if wait is not None:
            spent = self.spent.setdefault(wait.call.registered.name, {})
            spent[wait.call.hook] = spent.get(wait.call.hook, 0.0) + self._clock() - wait.begun

    def keepalive(self, position: int, seconds: Callable[[HookCall], float]) -> None:
        """What the policy at `position` waits for begins its time anew."""
        for wait in list(self._waits.values()):
            if wait.call.position == position:
                wait.deadline = self._clock() + seconds(wait.call)
                if wait.anew is not None:
                    wait.anew()

    def deadline(self, position: int) -> float | None:
        """Until when the policy at `position` may wait; None while it does not."""
        own = (wait.deadline for wait in self._waits.values() if wait.call.position == position)
        return max(own, default=None)

    def overdue(self) -> HookCall | None:
        """The call that has run past its deadline and has no time-out of its own, if one has."""
        if not self._waits:
            return None
        now = self._clock()
        late = (wait.call for wait in self._waits.values() if wait.anew is None and now >= wait.deadline)
        return next(late, None)
