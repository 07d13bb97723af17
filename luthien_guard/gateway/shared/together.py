"""One question at a time, for all that ask meanwhile: a burst costs a service two questions, however large it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio

from luthien_guard.errors import SinkError

__all__ = ["Together"]

Q = TypeVar("Q")
A = TypeVar("A")


class _Batch(Generic[Q, A]):
    """Those who are answered together. What nobody waits for costs no event."""

    __slots__ = ("_over", "answers", "error", "questions")

    def __init__(self) -> None:
        self.questions: list[Q] = []
        self.answers: Sequence[A] | None = None
        self.error: SinkError | None = None
        self._over: anyio.Event | None = None

    async def wait(self) -> None:
        self._over = self._over or anyio.Event()
        await self._over.wait()

    def end(self) -> None:
        if self._over is not None:
            self._over.set()


class Together(Generic[Q, A]):
    """`work` gives one answer for each of the questions, in their order, or raises SinkError for all of them."""

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        self._work = work
        self._under_way: _Batch[Q, A] | None = None
        self._next: _Batch[Q, A] | None = None

    @property
    def waiting(self) -> int:
        """How many questions wait for the one that is under way."""
        return 0 if self._next is None else len(self._next.questions)

    async def ask(self, question: Q) -> A:
        while True:
            first = self._next is None
            batch = self._next = self._next or _Batch()
            at = len(batch.questions)
            batch.questions.append(question)
            await (self._asked(batch) if first else batch.wait())
            if batch.answers is not None:
                return batch.answers[at]
            if batch.error is not None:
                raise batch.error
            # who asked for all was cancelled: somebody else does

    async def _asked(self, batch: _Batch[Q, A]) -> None:
        try:
            while self._under_way is not None:
                await self._under_way.wait()
            self._next, self._under_way = None, batch  # who comes from here on has a question of the next
            batch.answers = await self._work(batch.questions)
        except SinkError as error:
            batch.error = error
        finally:
            if self._next is batch:
                self._next = None
            if self._under_way is batch:
                self._under_way = None
            batch.end()
