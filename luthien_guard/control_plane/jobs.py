"""The verdicts on one answer that wait for somebody: several at once, so many at most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio

from luthien_guard.engine.aside import AT_ONCE
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.response import Response
from luthien_guard.engine.state import Job

__all__ = ["Jobs"]


class Jobs:
    """Runs those of a response."""

    __slots__ = ("_exchange", "_places", "_response", "_state", "running")

    def __init__(self, exchange: Exchange, response: Response) -> None:
        self._exchange = exchange
        self._response = response
        self._state = response.state
        self._places: anyio.Semaphore | None = None  # made when one waits
        self.running = 0  # calls of `run` that are not done with what has a say

    @property
    def aside(self) -> int:
        """Policies that only look on and have something to decide."""
        aside = self._exchange.aside
        return 0 if aside is None else aside.waiting

    async def run(self) -> None:
        """First what has a say: somebody waits for that."""
        state = self._state
        if not state.jobs:
            await self._decide_aside()
            return
        self.running += 1
        try:
            while state.jobs:
                if len(state.jobs) == 1:  # a group for one alone would cost as much as all the rest
                    await self._decide(state.jobs.pop())
                else:
                    jobs, state.jobs = state.jobs, []
                    await self._decide_at_once(jobs)
        finally:
            self.running -= 1

    async def _decide_at_once(self, jobs: Sequence[Job]) -> None:
        todo, decided = iter(jobs), list[Job]()
        async with anyio.create_task_group() as tasks:
            for _ in jobs[:AT_ONCE]:
                tasks.start_soon(self._decide_in_turn, todo, decided, tasks.cancel_scope)
        if len(decided) < len(jobs) and not self._state.done:
            raise RuntimeError("a task that decides was cancelled")  # which a task group passes over

    async def _decide_in_turn(
        self, todo: Iterable[Job], decided: list[Job], all_of_them: anyio.CancelScope
    ) -> None:
        """What ends the answer waits for no other verdict on it: a person may be asked for minutes."""
        for job in todo:
            await self._decide(job)
            decided.append(job)
            if self._state.done:
                all_of_them.cancel()
                return

    async def _decide(self, job: Job) -> None:
        """As soon as there is a place: the answer has so many, however its calls came."""
        places = self._places = self._places or anyio.Semaphore(AT_ONCE)
        try:
            places.acquire_nowait()
        except anyio.WouldBlock:
            await places.acquire()
        try:
            if not self._state.done:  # otherwise nobody gets the answer
                await self._response.decide(job)
                if self._state.ended:
                    await self._response.judge()
        finally:
            places.release()

    async def _decide_aside(self) -> None:
        if self._exchange.aside is not None:
            await self._exchange.services.at_once(self._exchange.aside.jobs())
