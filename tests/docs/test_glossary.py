"""The glossary has the words of the code."""

from __future__ import annotations

from pathlib import Path

from luthien_guard.events import CHANNELS
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.testing.script import WIRE_FORMATS

GLOSSARY = (Path(__file__).resolve().parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")


def test_channels_outcomes_and_wire_formats_are_explained() -> None:
    words = (*CHANNELS, *(status.value for status in OutcomeStatus), *WIRE_FORMATS)
    assert [word for word in words if f"`{word}`" not in GLOSSARY] == []
