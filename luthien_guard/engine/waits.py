"""The hooks of an exchange that wait for somebody: until when they may, how long they did."""

from __future__ import annotations

from collections.abc import Callable

from luthien_guard.registry import HookCall

__all__ = ["Waits"]

Clock = Callable[[], float]


class Waits:
    """Made when a hook first waits: in most exchanges none does."""

    __slots__ = ("_anew", "_clock", "_until", "spent")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.spent: dict[str, dict[str, float]] = {}  # seconds, by policy and hook
        #: Calls that somebody else looks after, with their deadlines.
        self._until: dict[object, tuple[HookCall, float]] = {}
        #: Calls with a time-out of their own, and how that begins anew.
        self._anew: dict[object, tuple[HookCall, Callable[[], None]]] = {}

    def until(self, key: object, call: HookCall, deadline: float) -> None:
        """`call` waits, and is overdue from `deadline` on."""
        self._until[key] = (call, deadline)

    def timed(self, key: object, call: HookCall, anew: Callable[[], None]) -> None:
        """`call` waits within a time-out that `anew` starts again."""
        self._anew[key] = (call, anew)

    def over(self, key: object, call: HookCall, begun: float) -> None:
        self._until.pop(key, None)
        self._anew.pop(key, None)
        spent = self.spent.setdefault(call.registered.name, {})
        spent[call.hook] = spent.get(call.hook, 0.0) + self._clock() - begun

    def keepalive(self, position: int, begin: Callable[[HookCall], float]) -> None:
        """What the policy at `position` waits for begins its time anew. `begin` gives a call's new deadline."""
        for key, (call, _) in list(self._until.items()):
            if call.position == position:
                self._until[key] = (call, begin(call))
        for call, anew in self._anew.values():
            if call.position == position:
                begin(call)
                anew()

    def overdue(self) -> HookCall | None:
        """The call that has run past its deadline, if one has."""
        if not self._until:
            return None
        now = self._clock()
        return next((call for call, deadline in self._until.values() if now >= deadline), None)
