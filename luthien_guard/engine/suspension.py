"""Finish a coroutine whose first step was made by hand.

A hook that is awaited in place almost never suspends, and timing every call would cost more than the call. So the caller
makes the first step itself (`coroutine.send(None)`); only a coroutine that has not finished in it is worth a timer:

    try:
        first = coroutine.send(None)
    except StopIteration as stop:
        return stop.value        # the usual case: nothing waited
    start_a_timer()
    return await rest(coroutine, first)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar, cast

__all__ = ["rest"]

T = TypeVar("T")


@coroutine
def rest(begun: Coroutine[Any, Any, T], first: object) -> Generator[Any, Any, T]:
    """Await the remaining steps: PEP 380's `yield from`, from its middle. `first` is what the first step yielded."""
    wanted = first
    while True:
        try:
            value = yield wanted
        except GeneratorExit:
            begun.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown on: cancellation travels inward like a value
            try:
                wanted = begun.throw(error)
            except StopIteration as stop:
                return cast("T", stop.value)
        else:
            try:
                wanted = begun.send(value)
            except StopIteration as stop:
                return cast("T", stop.value)
