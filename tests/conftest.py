"""What every test gets: both event loops, no network, and in CI no silent skips."""

from __future__ import annotations

import os

# Before anything can import litellm: it would ask the network for its price list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import pytest
from hypothesis import HealthCheck, settings

from tests.rig.garbage import pytest_collection, pytest_runtest_logfinish
from tests.rig.network import _network_guard, no_network
from tests.rig.strict import pytest_configure

__all__ = [
    "_network_guard",
    "anyio_backend",
    "no_network",
    "pytest_collection",
    "pytest_configure",
    "pytest_runtest_logfinish",
]

# Deterministic and without a clock: a slow machine must not fail a test, and CI must not find what nobody can repeat.
settings.register_profile(
    "luthien",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("luthien")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on both."""
    return str(request.param)
