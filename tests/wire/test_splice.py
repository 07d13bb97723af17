"""The fast way to change one string changes that string, or says that it cannot."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.events import Chunk
from luthien_guard.wire.splice import patch_chunk, replace_string
from luthien_guard.wire.sse import canonical


@pytest.mark.parametrize(
    "text",
    [
        r'{"delta":{"te\u0078t":"SECRET"},"x":{"text":"y"}}',  # the member itself is spelled with escapes
        r'{"a":"\"text\":\"y\"","delta":{"text":"SECRET"}}',  # the needle inside a string
        r'{"x":{"text":"y"},"delta":{"text":"SECRET"}}',
        r'{"delta":{"text" : "SECRET"},"y":["text"]}',
        r'{"delta":{"a\\":1,"text":"SECRET"}}',
    ],
)
def test_only_the_place_that_is_meant_changes(text: str) -> None:
    chunk = Chunk("data", canonical(text.encode()), json.loads(text))
    after = json.loads(patch_chunk(chunk, {("delta", "text"): "new"})[6:])
    before = json.loads(text)
    before["delta"]["text"] = "new"
    assert after == before


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=4),
    st.text(max_size=9),
    st.text(max_size=9),
)
def test_a_splice_is_the_patch_or_nothing(others: dict[str, str], old: str, new: str) -> None:
    value = {"o": others, "delta": {"text": old, "z": list(others)}}
    raw = canonical(json.dumps(value, ensure_ascii=False).encode())
    spliced = replace_string(raw, b"text", new)
    value["delta"] = {"text": new, "z": list(others)}
    if spliced is not None:
        assert json.loads(spliced[6:]) == value
    assert json.loads(patch_chunk(Chunk("data", raw, None), {("delta", "text"): new})[6:]) == value
