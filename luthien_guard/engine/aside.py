"""What policies in shadow that ask somebody are still to be asked: the answer waits for none of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from luthien_guard.hooks import HookCall

__all__ = ["AT_ONCE", "Aside"]

#: Bytes that a question takes besides its text.
_QUESTION: Final = 512
#: Calls or texts of an answer that somebody is asked about at once: who sends thousands floods no judge.
AT_ONCE: Final = 16


class _Backlog:
    """Of one policy, which is asked in order, as it would be in the answer's way: one thing after the other, but several
    calls at once."""

    __slots__ = ("busy", "late", "questions", "size")

    def __init__(self) -> None:
        self.questions: deque[tuple[HookCall, Any, int]] = deque()
        self.size = 0
        self.busy = False  # somebody asks
        self.late = False  # it was too far behind, and is asked nothing more

    def put(self, call: HookCall, event: Any, size: int) -> None:
        self.questions.append((call, event, size))
        self.size += size

    def next(self) -> list[tuple[HookCall, Any]]:
        """What to ask at once."""
        found = [self._first()]
        hook = found[0][0]
        if hook.hook == "on_tool_call_completed":
            while self.questions and self.questions[0][0] is hook and len(found) < AT_ONCE:
                found.append(self._first())
        return found

    def _first(self) -> tuple[HookCall, Any]:
        call, event, size = self.questions.popleft()
        self.size -= size
        return call, event


class Aside:
    """The backlogs of one answer, none of them above `limit` bytes. `ask` asks; `lost` is told once of a policy that does
    not keep up."""

    __slots__ = ("_ask", "_at_once", "_backlogs", "_limit", "_lost")

    def __init__(
        self,
        limit: int,
        ask: Callable[[HookCall, Any], Awaitable[Any]],
        at_once: Callable[[Sequence[Callable[[], Awaitable[Any]]]], Awaitable[Any]],
        lost: Callable[[HookCall, Any], None],
    ) -> None:
        self._limit = limit
        self._at_once = at_once
        self._ask = ask
        self._lost = lost
        self._backlogs: dict[int, _Backlog] = {}  # by the position of the policy

    def put(self, call: HookCall, event: Any) -> None:
        backlog = self._backlogs.setdefault(call.position, _Backlog())
        if backlog.late:
            return
        size = _size(event)
        if backlog.size + size > self._limit:
            backlog.late = True
            self._lost(call, event)
        else:
            backlog.put(call, event, size)

    @property
    def waiting(self) -> int:
        """Policies that nobody asks yet."""
        return len(self._idle())

    def jobs(self) -> list[Callable[[], Awaitable[None]]]:
        """What there is to do now, for each such policy: run all of them, at once."""
        return [partial(self._work, backlog) for backlog in self._idle()]

    def _idle(self) -> list[_Backlog]:
        return [each for each in self._backlogs.values() if each.questions and not each.busy]

    async def _work(self, backlog: _Backlog) -> None:
        if backlog.busy:
            return
        backlog.busy = True
        try:
            while backlog.questions:
                await self._at_once([partial(self._ask, *question) for question in backlog.next()])
        finally:
            backlog.busy = False


def _size(event: Any) -> int:
    """Of a call its arguments, of other events their text or their bytes."""
    chunk = getattr(event, "chunk", event)
    held = (getattr(chunk, name, "") for name in ("text", "arguments", "raw"))
    return _QUESTION + sum(map(len, held))
