"""A judge that answers from a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import anyio
import anyio.lowlevel

__all__ = ["FakeJudge"]


class FakeJudge:
    """Answers `{"probability": ..., "explanation": ...}` by what it is asked about.

    `FakeJudge({"rm -rf": 0.9}, default=0.0)`: the highest probability of the markers that the question contains, or
    the default. Give it to a guard as `judge`. `asked` keeps the messages of every question.
    """

    def __init__(self, probabilities: Mapping[str, float] | None = None, *, default: float = 0.0) -> None:
        self.probabilities = dict(probabilities or {})
        self.default = default
        self.asked: list[list[dict[str, Any]]] = []
        self._error: Exception | None = None
        self._text: str | None = None
        self._hangs = False

    def raises(self, error: Exception | None = None) -> Self:
        """Fail every time."""
        self._error = error or ConnectionError("the fake judge is out of order")
        return self

    def answers(self, text: str) -> Self:
        """Say exactly this every time, sensible or not."""
        self._text = text
        return self

    def hangs(self) -> Self:
        """Never answer."""
        self._hangs = True
        return self

    async def __call__(self, messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
        self.asked.append(messages)
        await anyio.lowlevel.checkpoint()
        if self._hangs:
            await anyio.sleep_forever()
        if self._error is not None:
            raise self._error
        if self._text is not None:
            return self._text
        question = "\n".join(
            str(each.get("content", "")) for each in messages if each.get("role") != "system"
        )
        found = [
            (value, marker) for marker, value in self.probabilities.items() if _mentions(question, marker)
        ]
        probability, why = max(found, default=(self.default, "nothing"))
        return json.dumps({"probability": probability, "explanation": f"it mentions {why}"})


def _mentions(question: str, marker: str) -> bool:
    """Also where the marker stands inside JSON inside JSON: judged calls are quoted as data."""
    for _ in range(3):
        if marker in question:
            return True
        marker = json.dumps(marker)[1:-1]
    return False
