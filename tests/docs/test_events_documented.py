"""Every kind of fact stands in the table of docs/records.md, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path

from luthien_guard.records import EventType

PAGE = Path(__file__).parents[2] / "docs" / "records.md"


def test_every_event_is_documented_once() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## What is recorded")[2].partition("## ")[0]
    named = re.findall(r"^\| `([a-z.]+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(type.value for type in EventType)
