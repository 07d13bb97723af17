"""What becomes of details that JSON or databases do not have."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import pytest

from luthien_guard.store import id_at, payload_of, spellings


def strictly(text: str) -> Any:
    def refused(name: str) -> NoReturn:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refused)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.nan, "NaN"),
        ([1, -math.inf], [1, "-Infinity"]),
        ({"deep": {"score": math.inf, "other": 1.5}}, {"deep": {"score": "Infinity", "other": 1.5}}),
        ({math.nan: 1}, {"NaN": 1}),
        ("\ud800", "\ud800"),
        (["\ud800", math.nan, "é"], ["\ud800", "NaN", "é"]),
        (1j, "1j"),
    ],
)
def test_a_payload_is_json_whatever_was_recorded(value: Any, stored: Any) -> None:
    payload = payload_of({"x": value})
    payload.encode()
    assert strictly(payload) == {"x": stored}


def test_a_payload_is_as_readable_as_it_can_be() -> None:
    assert payload_of({"x": "é", "n": 0.5}) == '{"x":"é","n":0.5}'


def test_what_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="Circular"):
        payload_of({"x": endless})


def test_a_plain_word_has_one_spelling() -> None:
    assert spellings("word") == ["word"]
    assert spellings("\ud800") == ["\\ud800", "\\\\ud800"]


@pytest.mark.parametrize("moment", [-1.0, 0.0, 1.7e9, 1e300, math.inf])
def test_a_moment_is_the_beginning_of_an_id(moment: float) -> None:
    assert len(id_at(moment)) == 13
    assert id_at(moment) <= id_at(moment + 1)
