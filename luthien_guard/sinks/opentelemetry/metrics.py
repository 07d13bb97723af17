"""The instruments, and what each is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from luthien_guard.sinks.opentelemetry import semconv
from luthien_guard.sinks.opentelemetry.semconv import Conventions

__all__ = ["Instruments"]

Ledger = Callable[[], Mapping[str, int]]
Attributes = Mapping[str, Any]

_STATES: Final = ("stored", "spooled", "in_memory")


class Instruments:
    """Durations in seconds, tokens, verdicts, and what this sink and the delivery had to drop."""

    def __init__(self, meter: Meter, names: Conventions) -> None:
        self._meter = meter
        self._client = _seconds(meter, names.client_duration, "Duration of a call of a model.")
        self._server = _seconds(meter, names.server_duration, "Duration of a served request to a model.")
        self._first_chunk = _seconds(meter, names.client_first_chunk, "Time to the first chunk of a stream.")
        self._first_token = _seconds(meter, names.server_first_token, "Time to the first chunk that left.")
        self._tokens = _tokens(meter, names.token_usage)
        self._input = _tokens(meter, names.input_tokens)
        self._output = _tokens(meter, names.output_tokens)
        self.exchanges = _required(
            _seconds(meter, semconv.EXCHANGE_DURATION, "Duration of an exchange, by outcome.")
        )
        self.policies = _required(
            _seconds(meter, semconv.POLICY_DURATION, "Time that an exchange spent in a policy.")
        )
        self.verdicts = meter.create_counter(semconv.VERDICTS, "{verdict}", "Interventions of policies.")
        self.dropped = meter.create_counter(
            semconv.TELEMETRY_DROPPED, "{item}", "Telemetry that was given up."
        )

    def duration(self, kind: str, seconds: float, attributes: Attributes) -> None:
        instrument = self._server if kind == "server" else self._client
        if instrument is not None:
            instrument.record(seconds, attributes)

    def first_chunk(self, kind: str, seconds: float, attributes: Attributes) -> None:
        instrument = self._first_token if kind == "server" else self._first_chunk
        if instrument is not None:
            instrument.record(seconds, attributes)

    def usage(self, input_tokens: int | None, output_tokens: int | None, attributes: Attributes) -> None:
        for kind, number, own in (
            ("input", input_tokens, self._input),
            ("output", output_tokens, self._output),
        ):
            if number is None:
                continue
            if self._tokens is not None:
                self._tokens.record(number, {**attributes, semconv.TOKEN_TYPE: kind})
            if own is not None:
                own.record(number, attributes)

    def watch(self, ledger: Ledger) -> None:
        """Report the delivery's ledger whenever metrics are collected."""

        def states(_: CallbackOptions) -> Iterable[Observation]:
            counts = ledger()
            return [Observation(counts.get(state, 0), {semconv.RECORD_STATE: state}) for state in _STATES]

        def drops(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(number, {semconv.DROP_REASON: name.partition(".")[2] or "refused"})
                for name, number in ledger().items()
                if name.startswith("dropped.") or name == "refused"
            ]

        self._meter.create_observable_up_down_counter(
            semconv.RECORDS, [states], "{record}", "Records, by where they are."
        )
        self._meter.create_observable_counter(
            semconv.RECORDS_DROPPED, [drops], "{record}", "Records that were dropped, by reason."
        )


def _seconds(meter: Meter, name: str, description: str) -> Histogram | None:
    if not name:
        return None
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=semconv.SECONDS)


def _tokens(meter: Meter, name: str) -> Histogram | None:
    if not name:
        return None
    return meter.create_histogram(
        name, "{token}", "Tokens used.", explicit_bucket_boundaries_advisory=semconv.TOKENS
    )


def _required(instrument: Histogram | None) -> Histogram:
    assert instrument is not None
    return instrument
