"""What `/metrics` tells: nothing is counted where `prometheus-client` is not installed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["Metrics"]


class Metrics:
    """Counters in a registry of their own: two gateways in one process, or one in a host that has metrics already, do
    not meet. `worker`: a label of every number, for one of several processes at one port. Whoever scrapes hears now the
    one, now the other, and would take the smaller number for a counter that began anew."""

    def __init__(self, *, enabled: bool = True, worker: str | None = None) -> None:
        self._worker = worker
        self._client: Any = _prometheus() if enabled else None
        if self._client is not None:
            self._make(self._client)

    @property
    def available(self) -> bool:
        return self._client is not None

    def render(self) -> tuple[str, bytes]:
        """Content type and body."""
        registry = self._registry if self._worker is None else _Labelled(self._registry, self._worker)
        return self._client.CONTENT_TYPE_LATEST, self._client.generate_latest(registry)

    def answered(self, wire_format: str, upstream: str, status: int, seconds: float) -> None:
        """The first byte of an answer is there."""
        if self._client is not None:
            count, first_byte = self._answered(wire_format, upstream, status)
            count.inc()
            first_byte.observe(seconds)

    def failed(self, wire_format: str, code: str) -> None:
        if self._client is not None:
            self._failures.labels(wire_format, code).inc()

    def refused(self, why: str) -> None:
        """A request that did not come past the door."""
        if self._client is not None:
            self._refusals.labels(why).inc()

    def unrecorded(self) -> None:
        """One of them that left no record: there were too many."""
        if self._client is not None:
            self._unrecorded.inc()

    @contextmanager
    def running(self, wire_format: str) -> Generator[None]:
        """While a request is under way."""
        if self._client is None:
            yield
            return
        gauge = self._running(wire_format)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def watch(self, ledger: Callable[[], Mapping[str, int]]) -> None:
        """What became of every record: accepted is always stored, spooled, in memory or dropped (by reason)."""
        if self._client is not None:
            self._registry.register(_Ledger(ledger))

    def _make(self, client: Any) -> None:
        registry = self._registry = client.CollectorRegistry()
        self._answers = client.Counter(
            "luthien_gateway_answers",
            "Answers of upstreams.",
            ["wire_format", "upstream", "status"],
            registry=registry,
        )
        self._failures = client.Counter(
            "luthien_gateway_upstream_failures",
            "Requests without an answer, and answers that broke off.",
            ["wire_format", "code"],
            registry=registry,
        )
        self._refusals = client.Counter(
            "luthien_gateway_refusals", "Requests turned away at the door.", ["why"], registry=registry
        )
        self._unrecorded = client.Counter(
            "luthien_gateway_refusals_unrecorded",
            "Requests turned away at the door that are counted only.",
            registry=registry,
        )
        self._in_flight = client.Gauge(
            "luthien_gateway_in_flight", "Requests under way.", ["wire_format"], registry=registry
        )
        self._first_byte = client.Histogram(
            "luthien_gateway_first_byte_seconds",
            "From the decided request to the upstream's first byte.",
            ["wire_format", "upstream"],
            registry=registry,
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
        )
        # looking one up by its labels takes longer than counting
        self._answered = cache(self._answer)
        self._running = cache(self._in_flight.labels)

    def _answer(self, wire_format: str, upstream: str, status: int) -> tuple[Any, Any]:
        return self._answers.labels(wire_format, upstream, status), self._first_byte.labels(
            wire_format, upstream
        )


class _Ledger:
    """Asked when somebody scrapes, so that the numbers of one answer belong together."""

    def __init__(self, ledger: Callable[[], Mapping[str, int]]) -> None:
        from prometheus_client.core import GaugeMetricFamily

        self._family: Any = GaugeMetricFamily
        self._ledger = ledger

    def collect(self) -> Generator[Any]:
        records = self._family("luthien_records", "Records by what became of them.", labels=["state"])
        dropped = self._family("luthien_records_dropped", "Records that were dropped.", labels=["reason"])
        for name, count in self._ledger().items():
            state, _, reason = name.partition(".")
            family, label = (dropped, reason) if reason else (records, state)
            family.add_metric([label], count)
        yield records
        yield dropped


class _Labelled:
    """A registry, every number of which says whose it is."""

    def __init__(self, registry: Any, worker: str) -> None:
        self._registry = registry
        self._worker = worker

    def collect(self) -> Generator[Any]:
        for family in self._registry.collect():
            family.samples = [
                each._replace(labels={**each.labels, "worker": self._worker}) for each in family.samples
            ]
            yield family


def _prometheus() -> Any:
    try:
        import prometheus_client
    except ImportError:
        return None
    return prometheus_client
