"""Finish a coroutine whose first step was made by hand.

A hook that is awaited in place almost never suspends, and timing every call would cost more than the call. So the caller
makes the first step itself (`coroutine.send(None)`); only a coroutine that has not finished in it is worth a timer:

    try:
        first = coroutine.send(None)
    except StopIteration as stop:
        return stop.value        # the usual case: nothing waited
    start_a_timer()
    return await Rest(coroutine, first)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

__all__ = ["Later", "Rest"]

T = TypeVar("T")


class Later(Generic[T]):
    """What somebody will say who has to wait for it: await it. A type of its own, because a hook may return whatever it
    likes, also a coroutine that it forgot to await."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()


class Rest(Generic[T]):
    """Awaits the remaining steps: PEP 380's `yield from`, from its middle. `first` is what the first step yielded."""

    __slots__ = ("_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, T], first: object) -> None:
        self._coroutine = coroutine
        self._first = first

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine, wanted = self._coroutine, self._first
        while True:
            try:
                value = yield wanted
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown on: cancellation travels inward like a value
                try:
                    wanted = coroutine.throw(error)
                except StopIteration as stop:
                    return cast("T", stop.value)
            else:
                try:
                    wanted = coroutine.send(value)
                except StopIteration as stop:
                    return cast("T", stop.value)
