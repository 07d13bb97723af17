"""Going on with a coroutine whose first step was made by hand, because it turned out to wait."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["Rest"]


class Rest:
    """The remaining steps of a coroutine that yielded `first` in its first step (PEP 380's `yield from`, from its
    middle)."""

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
            except BaseException as error:  # noqa: BLE001 -- cancellation travels inward like a value
                try:
                    wanted = coroutine.throw(error)
                except StopIteration as stop:
                    return stop.value
            else:
                try:
                    wanted = coroutine.send(value)
                except StopIteration as stop:
                    return stop.value
