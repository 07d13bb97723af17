"""JSON made to cost much, or to be read in two ways. Sizes are such that work that grows with their square would take
minutes here."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luthien_guard.errors import BodyTooLarge, MalformedBody
from luthien_guard.wire.json_text import dumps, loads
from luthien_guard.wire.requests import read_request

MANY = 300_000
BRACKETS = b"[" + b"[]," * 129


@pytest.mark.parametrize(
    "text",
    [
        BRACKETS + b'"' + b'\\"' * MANY,
        BRACKETS + b'"' + b'\\"' * MANY + b"\\",
        BRACKETS + b'"' + b"\\\\" * MANY,
        BRACKETS + b'"' + b"a\\" * MANY,
        BRACKETS + b'"' * MANY,
        BRACKETS + b'"' + b'\\"' * MANY + b'"',  # it ends; what is around it does not
    ],
)
def test_a_string_that_never_ends_costs_what_it_is_long(text: bytes) -> None:
    with pytest.raises(MalformedBody):
        loads(text)
    with pytest.raises(MalformedBody):
        read_request("openai.chat", text, {})


def test_many_brackets_and_many_strings_are_read() -> None:
    value = [{'a"[': ["\\", "]}{[" * 9, i]} for i in range(20_000)]
    assert loads(json.dumps(value).encode()) == value


# -- depth -------------------------------------------------------------------------------------------------------------


def _depth(value: Any) -> int:
    """How deep the brackets go."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


NOISE = st.text(st.sampled_from('[]{}"\\/ab,:\n'), max_size=6)
LEVELS = st.lists(st.booleans(), min_size=120, max_size=136)


@given(st.lists(NOISE, max_size=4), LEVELS, st.sampled_from(["", "long", '[{"\\']))
def test_the_depth_is_that_of_the_value_whatever_its_strings_say(
    noise: list[str], levels: list[bool], much: str
) -> None:
    value: Any = [*noise, much * 2000, *([[]] * 130)]  # wide enough to be looked at
    for at, is_object in enumerate(levels):
        said = noise[at % len(noise)] if noise else ""
        value = {said: value} if is_object else [said, value, said]
    text = json.dumps(value).encode()
    if _depth(value) > 128:
        with pytest.raises(BodyTooLarge):
            loads(text)
    else:
        assert loads(text) == value


@pytest.mark.parametrize("levels", [129, 199, 200, 201, 100_000])
@pytest.mark.parametrize("end", [b"", b"}", b'"'])
def test_what_is_too_deep_is_too_large_even_where_it_is_malformed_behind(levels: int, end: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        loads(b"[" * levels + end)


def test_a_smaller_depth_may_be_asked_for() -> None:
    assert loads(b'[["[[["]]', max_depth=2) == [["[[["]]
    with pytest.raises(BodyTooLarge):
        loads(b"[[[]]]", max_depth=2)


# -- numbers -----------------------------------------------------------------------------------------------------------

LONG = b'1e400 \\" \\\\ ]}' * 500  # and what is said there is no number

ZEROS = st.integers(0, 420).map("0".__mul__)
DIGITS = (
    st.just("0")
    | st.from_regex(r"[1-9][0-9]{0,30}", fullmatch=True)
    | ZEROS.map("1".__add__)
    | ZEROS.map("9".__add__)
)
FRACTION = st.just("") | st.builds("".join, st.tuples(st.just("."), ZEROS, st.sampled_from("059")))
SIZE = st.integers(0, 99) | st.integers(290, 320) | st.integers(0, 1000) | st.integers(0, 10**30)
EXPONENT = st.just("") | st.builds(
    "".join,
    st.tuples(
        st.sampled_from("eE"),
        st.sampled_from(["", "+", "-"]),
        st.sampled_from(["", "0", "000"]),
        SIZE.map(str),
    ),
)
NUMBERS = st.builds("".join, st.tuples(st.sampled_from(["", "-"]), DIGITS, FRACTION, EXPONENT))


@given(NUMBERS)
@example("1" + "0" * 250 + "e99")
@example("-1" + "0" * 250 + "e99")
@example("1" + "0" * 209 + "E99")
@example("9" * 210 + "e99")
@example("9" * 300 + "e9")
@example("9" * 308 + "e+1")
@example("1" + "0" * 400 + "e-50")
@example("1" + "0" * 400 + "e-99")
@example("9" * 309 + ".0")
@example("0." + "0" * 400 + "1e710")
@example("0." + "0" * 400 + "1e700")
@example("1.5E+308")
@example("1.79769313486231570814527423731704356798070e+308")
@example("1.8e308")
@example("-1.8e+308")
@example("1e0000000099")
@example("0e999999999999")
@example("1.0e00000309")
def test_a_number_is_read_as_python_reads_it_and_refused_where_that_is_infinity(number: str) -> None:
    is_float = any(mark in number for mark in ".eE")
    text = b'{"a":[%b],"b\\"":"%b"}'
    try:
        value = loads(text % (number.encode(), b""))["a"][0]
    except MalformedBody:
        assert is_float and math.isinf(float(number))
        with pytest.raises(MalformedBody):
            loads(text % (number.encode(), LONG))
        return
    assert loads(text % (number.encode(), LONG))["a"] == [value]
    assert value == (float(number) if is_float else int(number))
    assert json.loads(dumps(value)) == value  # nothing that is read cannot be written
