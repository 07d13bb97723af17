"""Notice when a coroutine really waits.

A hook that is awaited in place almost never suspends. Timing every call would cost more than the call; so the first
step is made by hand, and only a coroutine that did not finish in it is worth a timer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

__all__ = ["noticed"]

T = TypeVar("T")


async def noticed(coroutine: Coroutine[Any, Any, T], suspended: Callable[[], None]) -> T:
    """Await `coroutine`; call `suspended()` once if it does not finish without waiting."""
    try:
        first = coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    suspended()
    return cast("T", await _Rest(coroutine, first))


class _Rest:
    """The remaining steps of a coroutine whose first one has been made (PEP 380's `yield from`, from its middle)."""

    __slots__ = ("_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first

    def __await__(self) -> Generator[Any, Any, Any]:
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
                    return stop.value
            else:
                try:
                    wanted = coroutine.send(value)
                except StopIteration as stop:
                    return stop.value
