"""What policies read of events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard import ToolCall
from luthien_guard.errors import WireError
from luthien_guard.wire.json_text import dumps, loads


def parsed(arguments: str) -> Any:
    return ToolCall("c1", "bash", arguments).parsed


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "ls -l",
        "{",
        '{"a": 1} {}',
        '\ufeff{"a": 1}',
        '{"a": 1, "a": 2}',
        '{"a": 1, "\\u0061": 2}',
        '{"a": [{"b": 1, "b": 1}]}',
        '{"n": NaN}',
        '{"n": [-Infinity]}',
        '{"n": 1e400}',
        '{"n": -1e999}',
        '{"s": "\\ud800"}',
        '{"\\udfff": 1}',
        '["\\udc00\\ud800"]',
        '{"s": "\ud800"}',
        "[" * 100_000,
        "1" * 5_000,
    ],
)
def test_what_parsers_disagree_about_is_not_parsed(arguments: str) -> None:
    assert parsed(arguments) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_it_reads_what_the_wire_formats_read(value: Any) -> None:
    try:
        text = dumps(value)
        read = loads(text.encode())
    except (ValueError, WireError):  # infinity, half of a surrogate pair
        return
    assert parsed(text) == read
