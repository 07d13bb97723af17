"""Whatever the records say, in whatever order, from however many threads: spans end, trees hold together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from luthien_guard.records import EventType, Record
from luthien_guard.sinks.opentelemetry import Capture
from tests.telemetry.rig import Collected, recorder

CALLS = st.sampled_from(["a", "b", "c"])
TYPES = st.sampled_from(list(EventType))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["block", "success", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "wire_format",
        "endpoint",
        "model",
        "stream",
        "body",
        "status",
        "attempt",
        "verdict",
        "outcome",
        "choices",
        "usage",
        "hooks",
        "said",
        "reason",
        "error",
        "code",
        "session_id",
        "traceparent",
        "first_byte",
        "chunk_count",
    ]
)
FACTS = st.tuples(CALLS, TYPES, st.floats(-1e3, 1e9), st.dictionaries(FIELDS, VALUES, max_size=6))


@given(st.lists(FACTS, max_size=30), st.booleans())
@settings(max_examples=150)
def test_any_records_in_any_order(
    facts: list[tuple[str, EventType, float, dict[str, Any]]], captured: bool
) -> None:
    collected = Collected(capture=Capture(captured, captured), max_age=float("inf"))
    seq = 0
    for seq, (call_id, type, at, details) in enumerate(facts):
        collected.sink.put(Record(call_id, seq, at, type, None, details))
    for call_id in ("a", "b", "c"):
        collected.sink.put(Record(call_id, seq + 1, 2e9, EventType.CLOSED, None, {"outcome": "success"}))
    assert collected.sink.open == 0
    known = {span.context.span_id: span for span in collected.spans if span.context}
    for span in collected.spans:
        assert (span.end_time or 0) >= (span.start_time or 0)
        if span.name.startswith("luthien."):
            assert span.parent is not None
            assert known[span.parent.span_id].context.trace_id == span.parent.trace_id  # type: ignore[union-attr]


def test_threads_do_not_mix_their_exchanges() -> None:
    collected = Collected()

    def exchanges(thread: int) -> None:
        for number in range(50):
            record = recorder(collected.sink.put, f"{thread}-{number}")
            record(EventType.REQUEST_RECEIVED, wire_format="openai.chat", model=f"m-{thread}", body="{}")
            record(EventType.VERDICT, f"p-{thread}", verdict="block")
            record(EventType.CLOSED, outcome="blocked")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(exchanges, range(8)))
    assert collected.sink.open == 0
    found = [span for span in collected.spans if span.name.startswith("chat ")]
    assert len(found) == 400
    for span in found:
        (event,) = span.events
        assert (event.attributes or {})["luthien.policy.name"] == span.name.replace("chat m", "p")


def test_an_id_that_comes_twice_leaves_no_span_open() -> None:
    collected = Collected()
    for _ in range(3):
        recorder(collected.sink.put, "same")(EventType.REQUEST_RECEIVED, body="{}")
    recorder(collected.sink.put, "same")(EventType.CLOSED, outcome="success")
    assert collected.sink.open == 0
