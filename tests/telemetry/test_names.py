"""The names are data: they stand in one module, and the "stable" ones are those of the published package."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import luthien_guard.sinks.opentelemetry as package
from luthien_guard.sinks.opentelemetry import semconv

_NAME = re.compile(r"\"((?:gen_ai|luthien|error|http|llm|openinference)\.[a-z_.]+)\"")
_HOME = Path(package.__file__).parent


def names_in(path: Path) -> set[str]:
    return set(_NAME.findall(path.read_text(encoding="utf-8")))


def test_no_name_is_written_anywhere_else() -> None:
    modules = [path for path in _HOME.glob("*.py") if path.name != "semconv.py"]
    assert len(modules) > 5
    assert {path.name: found for path in modules if (found := names_in(path))} == {}


def test_stable_names_are_the_published_ones() -> None:
    published: set[str] = set()
    for name in ("attributes.gen_ai_attributes", "metrics.gen_ai_metrics"):
        module = import_module(f"opentelemetry.semconv._incubating.{name}")
        published |= {value for value in vars(module).values() if isinstance(value, str)}
    ours = {name for name in names_in(_HOME / "semconv.py") if name.startswith("gen_ai.")}
    newer = {name for name in ours if name.startswith("gen_ai.client.inference.")}
    newer |= {semconv.CONVENTIONS["latest"].cache_write_tokens}
    assert ours - published == newer


def test_every_name_is_explained() -> None:
    page = (_HOME.parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    spans = (semconv.REQUEST_SPAN, semconv.UPSTREAM_SPAN, semconv.RESPONSE_SPAN, semconv.POLICY_SPAN)
    events = (semconv.INTERVENTION, semconv.NOTED, semconv.FAILED, semconv.REJECTED, semconv.POLICY_RECORD)
    metrics = (
        semconv.EXCHANGE_DURATION,
        semconv.POLICY_DURATION,
        semconv.VERDICTS,
        semconv.TELEMETRY_DROPPED,
    )
    attributes = (semconv.CALL_ID, semconv.OUTCOME, semconv.BLOCKED_BY, semconv.REASON, semconv.CHUNK_COUNT)
    named = (*spans, *events, *metrics, *attributes, semconv.RECORDS, semconv.RECORDS_DROPPED)
    assert [name for name in named if name not in page] == []
