"""Asking a shared service without ever waiting long for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from luthien_guard.errors import SinkError

__all__ = ["Away", "Reach"]

T = TypeVar("T")
logger = logging.getLogger("luthien_guard")

_DEADLINE: Final = 0.25  # seconds
_PAUSE: Final = 1.0  # seconds


class Away(SinkError):
    """The service did not answer, or did not a moment ago."""


class Reach:
    """One service. Who asks waits at most `deadline` seconds; after a failure it is left alone for `pause` seconds, and
    then one question finds out for all. The log says once that it is away, and once that it is back."""

    def __init__(
        self,
        place: str,
        *,
        deadline: float = _DEADLINE,
        pause: float = _PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self._deadline = deadline
        self._pause = pause
        self._clock = clock
        self._next: float | None = None  # when to ask again, while it is away

    @property
    def away(self) -> bool:
        return self._next is not None

    async def ask(self, work: Callable[[], Awaitable[T]]) -> T:
        """Raises Away."""
        if self._next is not None:
            if self._clock() < self._next:
                raise Away(f"{self.place} is away")
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
            logger.info("%s answers again", self.place)
        return found

    async def _in_time(self, work: Callable[[], Awaitable[T]]) -> T:
        before = self._clock()
        try:
            with anyio.fail_after(self._deadline):
                return await work()
        except TimeoutError:
            if self._clock() - before < 2 * self._deadline:
                raise
        # This process itself was busy: that says nothing about the service.
        with anyio.fail_after(self._deadline):
            return await work()

    def _went(self, reason: str) -> None:
        if self._next is None:
            logger.warning("what workers share is away: %s", reason)
        self._next = self._clock() + self._pause
