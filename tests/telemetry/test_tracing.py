"""`Guard(tracing="otel")`: the installed sink, its counters and its log filter, for as long as the guard runs."""

from __future__ import annotations

import logging

import pytest

from luthien_guard import Guard
from luthien_guard.errors import ConfigError
from luthien_guard.sinks.opentelemetry import LogCorrelation, OpenTelemetrySink

pytestmark = pytest.mark.anyio


def correlated() -> int:
    return sum(isinstance(each, LogCorrelation) for each in logging.getLogger("luthien_guard").filters)


async def test_tracing_by_name_runs_with_the_guard() -> None:
    guard = Guard(tracing="otel")
    assert any(isinstance(sink, OpenTelemetrySink) for sink in guard.delivery.sinks)
    assert correlated() == 0
    async with guard:
        assert correlated() == 1
    async with guard:
        assert correlated() == 1
    assert correlated() == 0


async def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'otel'"):
        Guard(tracing="otl")
