"""SIGINT and SIGTERM while a server is made: until it has handlers of its own, there is nothing to end in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias

__all__ = ["SIGNALS", "ended_by_signals", "hand_over"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_Handler: TypeAlias = Callable[[int, FrameType | None], None]


class _Ended(BaseException):
    """No Exception, and no SystemExit: what a policy's module forgives its own imports must not swallow a signal."""


@contextmanager
def ended_by_signals() -> Generator[None]:
    """A signal ends what is inside, quietly, until `hand_over`."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    hand_over(_end)
    try:
        yield
    except _Ended:
        pass
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def hand_over(handler: _Handler) -> None:
    """From now on signals are the business of `handler`."""
    for each in SIGNALS:
        signal.signal(each, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise _Ended
