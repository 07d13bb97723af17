"""Asking a shared service without ever waiting long for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from luthien_guard.errors import SinkError

__all__ = ["Away", "Busy", "Reach"]

T = TypeVar("T")
logger = logging.getLogger("luthien_guard")

_DEADLINE: Final = 0.25  # seconds
_PAUSE: Final = 1.0  # seconds
_LINE: Final = 1_000  # questions that wait for their turn
_LOOKS: Final = 5  # at a service that seems silent


class Away(SinkError):
    """The service did not answer, or did not a moment ago."""


class Busy(SinkError):
    """Too many ask. Whoever sends requests can bring that about: it says nothing about the service, and must open
    nothing."""


class Reach:
    """One service, which answers `at_once` questions at a time; the others wait for their turn here, and that is not the
    service's silence. Each has `deadline` seconds once it was asked; after a failure the service is left alone for
    `pause` seconds, and then one question finds out for all. The log says once that it is away, and once that it is
    back. `what`: the service in the operator's words."""

    def __init__(
        self,
        place: str,
        *,
        what: str = "what workers share",
        deadline: float = _DEADLINE,
        pause: float = _PAUSE,
        at_once: int = 1,
        line: int = _LINE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self._what = what
        self._deadline = deadline
        self._pause = pause
        self._clock = clock
        self._line = line
        self._turns = anyio.Semaphore(at_once, fast_acquire=True)
        self._next: float | None = None  # when to ask again, while it is away

    @property
    def away(self) -> bool:
        return self._next is not None

    async def ask(self, work: Callable[[], Awaitable[T]]) -> T:
        """Raises Away, or Busy."""
        self._check()
        if not self._turns.value and self._turns.statistics().tasks_waiting >= self._line:
            raise Busy(f"{self.place}: too many ask at the same time")
        async with self._turns:
            return await self._asked(work)

    def _check(self) -> None:
        if self._next is not None and self._clock() < self._next:
            raise Away(f"{self.place} is away")

    async def _asked(self, work: Callable[[], Awaitable[T]]) -> T:
        self._check()  # it may have gone while this question waited
        if self._next is not None:
            self._next = self._clock() + self._pause
        try:
            found = await self._in_time(work)
        except TimeoutError:
            self._went(f"{self.place}: no answer within {self._deadline:g} s")
            raise Away(f"{self.place} is away") from None
        except SinkError as error:
            self._went(str(error))
            raise Away(f"{self.place} is away") from None
        if self._next is not None:
            self._next = None
            logger.info("%s answers again: %s", self._what, self.place)
        return found

    async def _in_time(self, work: Callable[[], Awaitable[T]]) -> T:
        """Raises TimeoutError."""
        try:
            with anyio.fail_after(self._deadline):
                return await work()
        except TimeoutError:
            if self._next is not None:
                raise
        return await self._heard(work)

    async def _heard(self, work: Callable[[], Awaitable[T]]) -> T:
        """Asks once more. Was it silent, or had this loop no time to hear it? Who sends enough can bring the latter
        about. Looks tell them apart: between two of them the loop comes round, however late."""
        answer: list[T] = []
        failure: list[SinkError] = []
        done = anyio.Event()

        async def asked() -> None:
            try:
                answer.append(await work())
            except SinkError as error:
                failure.append(error)
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asked)
            for _ in range(_LOOKS):
                with anyio.move_on_after(self._deadline / _LOOKS):
                    await done.wait()
                if done.is_set():
                    break
            tasks.cancel_scope.cancel()
        if failure:
            raise failure[0]
        if not answer:
            raise TimeoutError
        return answer[0]

    def _went(self, reason: str) -> None:
        if self._next is None:
            logger.warning("%s is away: %s", self._what, reason)
        self._next = self._clock() + self._pause
