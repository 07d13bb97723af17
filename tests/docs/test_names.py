"""docs/names.md has every public name, every attribute of a guard, and the fields of every event."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

import luthien_guard
from luthien_guard import Guard, events
from luthien_guard.config.settings import GuardConfig
from luthien_guard.exchange import Outcome
from luthien_guard.policy import PolicyContext

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "names.md").read_text(encoding="utf-8")
MODULES = ("asgi", "config", "gateway", "sinks.opentelemetry", "testing", "testing.strategies")
EVENTS = [
    value for value in vars(events).values() if dataclasses.is_dataclass(value) and value.__name__ in PAGE
]


def row(first: str) -> str:
    found = re.search(rf"^\| `{re.escape(first)}` \| (.*)$", PAGE, re.MULTILINE)
    assert found is not None, first
    return found[1]


def test_every_name_of_the_package_stands_there() -> None:
    assert [name for name in luthien_guard.__all__ if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_name_of_a_module_stands_in_its_row(module: str) -> None:
    names = importlib.import_module(f"luthien_guard.{module}").__all__
    said = row(f"luthien_guard.{module}")
    assert [name for name in names if not re.search(rf"`{name}\b", said)] == []


def test_every_attribute_and_argument_of_a_guard_stands_there() -> None:
    guard = PAGE.split("## For policies")[0]
    public = {name for name in vars(Guard) if not name.startswith("_")}
    given = set(inspect.signature(Guard).parameters) - set(GuardConfig.model_fields)
    assert sorted(name for name in public | given if not re.search(rf"`(Guard\.)?{name}\b", guard)) == []


def test_the_context_has_what_is_said_of_it() -> None:
    for_the_guard = {"request_sent", "answer_discarded"}
    public = {name for name in dir(PolicyContext) if not name.startswith("_")} - for_the_guard
    assert {*re.findall(r"`(\w+)(?:\(.*?\))?`", row("PolicyContext"))} - {"ctx"} == public


@pytest.mark.parametrize("event", [*EVENTS, Outcome], ids=lambda event: event.__name__)
def test_an_event_has_its_fields(event: type) -> None:
    named = re.findall(r"(?<![.`\w])`([a-z_]+)`", re.sub(r"\(.*?\)", "", row(event.__name__).split(";")[0]))
    assert named == [field.name for field in dataclasses.fields(event)]
