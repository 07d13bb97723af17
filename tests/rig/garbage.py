"""What stands stands until the last test: the garbage collector need not look at it each time."""

from __future__ import annotations

import gc
from collections.abc import Generator
from itertools import count

import pytest

_EVERY = 250  # tests: each leaves its reports and its fixtures
_ended = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Makes thousands of tests, their parameters and every module that they import: millions of objects, and none of them
    is garbage before the run is over."""
    gc.disable()
    try:
        return (yield)
    finally:
        _freeze()
        gc.set_threshold(10_000, 20, 20)  # most of what a test makes is gone before it is over
        gc.enable()


def pytest_runtest_logfinish() -> None:
    if next(_ended) % _EVERY == 0:
        _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()
