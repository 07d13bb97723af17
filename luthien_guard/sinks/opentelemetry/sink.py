"""The sink: records in, spans and metrics out. Uses the OpenTelemetry API only; without an SDK it does next to nothing."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, TracerProvider

from luthien_guard.errors import ConfigError
from luthien_guard.records import EventType, Record
from luthien_guard.sinks.opentelemetry.content import Capture
from luthien_guard.sinks.opentelemetry.context import inject
from luthien_guard.sinks.opentelemetry.exchange import ExchangeTrace, Unheard
from luthien_guard.sinks.opentelemetry.logs import LogCorrelation
from luthien_guard.sinks.opentelemetry.metrics import Instruments
from luthien_guard.sinks.opentelemetry.semconv import DROP_REASON, SCOPE, Semconv, choose
from luthien_guard.sinks.opentelemetry.shared import Telemetry
from luthien_guard.sinks.opentelemetry.values import Vocabulary

__all__ = ["OpenTelemetrySink"]

_API: Final = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry._logs")
_OPENING: Final = (EventType.REQUEST_RECEIVED, EventType.REQUEST_REJECTED)


class OpenTelemetrySink:
    """One span per exchange with children per phase and intervening policy, and metrics, through whatever providers
    the process has (or those given here). Nothing global is set, no span is made current.

    `semconv`: "stable" (what backends read today), "latest" (the names after the move of 2026), "legacy" (1.36);
    None asks `OTEL_SEMCONV_STABILITY_OPT_IN`. `capture`: where prompts, answers and reasons go; None asks
    `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`, which by default says nowhere. At most `max_open` exchanges
    are waited for, each at most `max_age` seconds by the records' clock. Raises ConfigError.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        *,
        semconv: Semconv | None = None,
        capture: Capture | None = None,
        max_open: int = 10_000,
        max_age: float = 3600.0,
    ) -> None:
        self._watching = False
        self._correlation = LogCorrelation()
        names = choose(semconv)
        capture = capture if capture is not None else Capture.from_environment()
        if capture.event and "event_name" not in inspect.signature(_logs.Logger.emit).parameters:
            raise ConfigError("content as events needs opentelemetry-api 1.38 or newer: capture it in spans")
        scope, release = SCOPE, _version()
        self._shared = Telemetry(
            tracer=trace.get_tracer(scope, release, tracer_provider),
            events=_logs.get_logger(scope, release, logger_provider),
            instruments=Instruments(metrics.get_meter(scope, release, meter_provider), names),
            names=names,
            capture=capture,
            models=Vocabulary(),
        )
        self._tracers = tracer_provider
        self._meters = meter_provider
        self._loggers = logger_provider
        self._max_open = max_open
        self._max_age = max_age
        self._open: OrderedDict[str, ExchangeTrace | Unheard] = OrderedDict()  # oldest first
        self._lock = threading.Lock()  # exchanges may run on several loops

    def put(self, record: Record) -> None:
        """Take one record, in the task of its exchange. May raise what a provider raises; the delivery catches it."""
        if record.type is EventType.CLOSED:
            self._close(record)
            return
        exchange = self._open.get(record.call_id)
        if exchange is None and record.type in _OPENING:
            exchange = self._begin(record)
        if exchange is not None:
            exchange.place.enter()
            exchange.tell(record)

    def start(self, ledger: Callable[[], Mapping[str, int]]) -> None:
        """Called by the guard: report the counters of its delivery, and put trace ids into the library's log."""
        if not self._watching:
            self._watching = True
            self.watch(ledger)
        logging.getLogger("luthien_guard").addFilter(self._correlation)

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """W3C context of the running exchange, for a call to upstream."""
        inject(headers)

    def span_of(self, call_id: str) -> tuple[str, str] | None:
        """(trace id, span id) of an open exchange, in hex."""
        exchange = self._open.get(call_id)
        context = INVALID_SPAN_CONTEXT if exchange is None else exchange.place.span_context
        if not context.is_valid:
            return None
        return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)

    def stop(self) -> None:
        """Called by the guard: the library's log gets no more ids."""
        logging.getLogger("luthien_guard").removeFilter(self._correlation)

    def watch(self, ledger: Callable[[], Mapping[str, int]]) -> None:
        """Report the counters of a delivery (`guard.delivery.ledger`) as metrics. Call it once."""
        self._shared.instruments.watch(ledger)

    @property
    def open(self) -> int:
        """Exchanges that have begun and not ended."""
        return len(self._open)

    def _begin(self, record: Record) -> ExchangeTrace | Unheard:
        exchange = ExchangeTrace(self._shared, record) if self._heard(record) else Unheard(record)
        with self._lock:
            self._open[record.call_id] = exchange
            given_up = self._overdue(record.at)
        for each in given_up:
            self._shared.instruments.dropped.add(1, {DROP_REASON: "abandoned"})
            each.abandon(record.at)
        return exchange

    def _heard(self, record: Record) -> bool:
        """Somebody listens, or there is a trace that has to be carried on."""
        return (
            _listens(self._tracers or trace.get_tracer_provider())
            or _listens(self._meters or metrics.get_meter_provider())
            or (self._shared.capture.event and _listens(self._loggers or _logs.get_logger_provider()))
            or record.details.get("traceparent") is not None
            or trace.get_current_span() is not INVALID_SPAN
        )

    def _overdue(self, now: float) -> list[ExchangeTrace | Unheard]:
        found: list[ExchangeTrace | Unheard] = []
        while self._open:
            call_id, oldest = next(iter(self._open.items()))
            if len(self._open) <= self._max_open and now - oldest.at <= self._max_age:
                break
            found.append(self._open.pop(call_id))
        return found

    def _close(self, record: Record) -> None:
        with self._lock:
            exchange = self._open.pop(record.call_id, None)
        if exchange is not None:
            exchange.close(record)


def _listens(provider: object) -> bool:
    """The API's own providers stand in for an SDK that is not there (yet); anybody else's is one."""
    return not type(provider).__module__.startswith(_API)


def _version() -> str:
    try:
        return version("luthien-guard")
    except PackageNotFoundError:  # vendored
        return ""
