"""Whose cancellation it is: the end of this task, which has to travel on, or the error of somebody who waited for a task
that a third one cancelled."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- used where it runs, and only there
from typing import Final

import anyio

__all__ = ["is_a_hooks_own", "must_travel"]

_ENDS: Final = (KeyboardInterrupt, SystemExit)


def must_travel(error: BaseException) -> bool:
    """True for what nobody on its way may take for a failure: this task's cancellation, or the process's end.

    A cancellation that reaches a task which nobody cancels is an error like any other, and ends whatever takes it for
    its own in silence.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(must_travel(each) for each in error.exceptions)
    if isinstance(error, GeneratorExit):
        return not _is_from_below(error)
    return isinstance(error, _ENDS) or _is_cancelled()


def is_a_hooks_own(error: BaseException) -> bool:
    """True for what a hook has failed with. An exit is one: what parses the arguments of a call likes to end in
    `sys.exit` (argparse does), and who writes them may not end the process with it."""
    return isinstance(error, SystemExit) or not must_travel(error)


def _is_from_below(error: GeneratorExit) -> bool:
    """True in a coroutine that awaited, or called, what raised it by hand. One that is closed gets a GeneratorExit of its
    own, where it stands; those of what it awaits end there."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is not None


def _is_cancelled() -> bool:
    """True in a task that is being cancelled, by a scope or by asyncio itself."""
    try:
        if anyio.current_effective_deadline() == -float("inf"):
            return True
        task = asyncio.current_task()
    except RuntimeError:  # no event loop, or not asyncio's
        return False
    return task is not None and task.cancelling() > 0
