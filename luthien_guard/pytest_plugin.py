"""Fixtures for testing with a guard; installed with the package, found by pytest itself.

pytest imports this before coverage starts: nothing of the library is imported before a fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from luthien_guard.testing import FakeJudge, Script, VirtualClock

__all__ = ["luthien_clock", "luthien_judge", "luthien_script"]


@pytest.fixture
def luthien_script() -> Script:
    """An empty script: `luthien_script.text("Hello")`."""
    from luthien_guard.testing import Script

    return Script()


@pytest.fixture
def luthien_judge() -> FakeJudge:
    """A judge that finds everything harmless until told otherwise: `luthien_judge.probabilities["rm -rf"] = 0.9`."""
    from luthien_guard.testing import FakeJudge

    return FakeJudge()


@pytest.fixture
def luthien_clock() -> VirtualClock:
    """A clock that moves only when told: `Guard(..., clock=luthien_clock)`, `await luthien_clock.advance(30)`."""
    from luthien_guard.testing import VirtualClock

    return VirtualClock()
