"""Strict reading, and changes that touch only the bytes that they have to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.errors import BodyTooLarge, MalformedBody
from luthien_guard.wire.json_text import DELETE, Raw, dumps, loads, patch, slice_of

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"stream":true,"str\\u0065am":false}',  # J03: the same key once it is unescaped
        b"NaN",
        b"[Infinity]",
        b"[1e400]",
        b"[" + b"9" * 400 + b".0]",
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"{} x",
        b"{}\x00",
        b"01",
        b"1.",
        b'"\x01"',
        b'"\t"',
        b"{'a':1}",
        b"[1,]",
        b"",
        b"// c\n{}",
    ],
)
def test_what_parsers_read_differently_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedBody):
        loads(text)


def test_depth_is_bounded_exactly() -> None:
    assert loads(b"[" * 128 + b"]" * 128)
    with pytest.raises(BodyTooLarge):
        loads(b"[" * 129 + b"]" * 129)
    with pytest.raises(BodyTooLarge):
        loads(b'{"a":' * 100_000)
    assert loads(b'"' + b"[" * 500 + b'"') == "[" * 500  # brackets in a string are text
    assert len(loads(b"[" + b",".join([b"[]"] * 500) + b"]")) == 500


def test_large_numbers_that_fit_are_accepted() -> None:
    assert loads(b"[1e300, 12345678901234567890]") == [1e300, 12345678901234567890]


@given(VALUES)
def test_loads_reads_what_the_standard_library_wrote(value: Any) -> None:
    assert loads(json.dumps(value).encode()) == value
    assert loads(dumps(value).encode()) == value


@given(VALUES, st.sampled_from([None, 1, 2]))
def test_a_patch_of_nothing_is_the_same_text(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert patch(text, {}) == text


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _paths(inner, (*at, key))
    return found


@given(st.data(), VALUES, st.sampled_from([None, 2]), VALUES)
def test_a_patch_changes_one_place_and_nothing_else(
    data: st.DataObject, value: Any, indent: int | None, new: Any
) -> None:
    paths = _paths(value)
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    patched = json.loads(patch(json.dumps(value, indent=indent), {path: new}))
    node = value
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = new
    assert patched == value


@given(st.data(), VALUES, st.sampled_from([None, 2]))
def test_a_deletion_takes_the_comma_along(data: st.DataObject, value: Any, indent: int | None) -> None:
    paths = _paths(value)
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    text = patch(json.dumps(value, indent=indent), {path: DELETE})
    node = value
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    assert loads(text.encode()) == value


def test_everything_else_stays_to_the_letter() -> None:
    text = '{ "n" : 1.0 , "big":123456789012345678901,  "x": [1, 2 ,{"c":"\\u0041"}] ,"z":null }'
    assert patch(text, {("x", 2, "c"): "new"}) == text.replace('"\\u0041"', '"new"')
    assert patch(text, {("z",): Raw('{"raw": 1e2}')}) == text.replace("null", '{"raw": 1e2}')


def test_members_and_elements_can_be_added() -> None:
    assert patch('{"a":1}', {("b",): 2}) == '{"a":1,"b":2}'
    assert patch("{}", {("b",): 2}) == '{"b":2}'
    assert patch("[1]", {(1,): 2}) == "[1,2]"
    assert patch('{"a":1}', {("a",): DELETE, ("b",): 2}) == '{"b":2}'


def test_a_path_that_leads_nowhere_is_an_error() -> None:
    for path in (("a", "b"), ("x", "y"), ("a", 0)):
        with pytest.raises(KeyError):
            patch('{"a":1}', {path: 0})


def test_a_slice_is_the_text_as_it_stands() -> None:
    assert slice_of('{"a": [ {"b": 1.50 } ]}', ("a", 0)) == '{"b": 1.50 }'
    assert slice_of('{"a": "x\\"y"}', ("a",)) == '"x\\"y"'
    with pytest.raises(KeyError):
        slice_of('{"a":1}', ("b",))


def test_the_default_output_is_compact_and_never_nan() -> None:
    assert dumps({"a": ["é", 1]}) == '{"a":["é",1]}'
    with pytest.raises(ValueError, match="Out of range"):
        dumps(float("nan"))
