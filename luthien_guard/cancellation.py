"""Whose cancellation it is: the end of this task, which has to travel on, or the error of somebody who waited for a task
that a third one cancelled."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- used where it runs, and only there
from typing import Final

import anyio

__all__ = ["must_travel"]

_ENDS: Final = (GeneratorExit, KeyboardInterrupt, SystemExit)


def must_travel(error: BaseException) -> bool:
    """True for what nobody on its way may take for a failure: this task's cancellation, or the process's end.

    A cancellation that reaches a task which nobody cancels is an error like any other, and ends whatever takes it for
    its own in silence.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(must_travel(each) for each in error.exceptions)
    return isinstance(error, _ENDS) or _is_cancelled()


def _is_cancelled() -> bool:
    """True in a task that is being cancelled, by a scope or by asyncio itself."""
    try:
        if anyio.current_effective_deadline() == -float("inf"):
            return True
        task = asyncio.current_task()
    except RuntimeError:  # no event loop, or not asyncio's
        return False
    return task is not None and task.cancelling() > 0
