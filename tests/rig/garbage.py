"""What stands before the first test runs stands until the last: the garbage collector need not look at it each time."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Makes thousands of tests, their parameters and every module that they import: millions of objects, and none of them
    is garbage before the run is over."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
