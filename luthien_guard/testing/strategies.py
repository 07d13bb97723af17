"""Hypothesis strategies: scripts, requests, and cuts of bytes. Needs hypothesis (the extra `testing`)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from luthien_guard.testing.cuts import Cut
from luthien_guard.testing.requests import request_for
from luthien_guard.testing.script import WIRE_FORMATS, Script

__all__ = ["chunkings", "cuts", "json_values", "requests", "scripts", "texts", "wire_formats"]

#: Text as models write it and as attackers would: no lone surrogates, which JSON of law 2 cannot carry.
texts = st.text(st.characters(codec="utf-8"), max_size=40)

wire_formats = st.sampled_from(WIRE_FORMATS)


def json_values(max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Any JSON value without NaN and infinities."""
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=max_leaves,
    )


@st.composite
def scripts(draw: st.DrawFn, *, tool_calls: bool = True, broken: bool = False) -> Script:
    """An answer: thinking first, texts, then calls, as models order them; `broken` adds ways to go wrong."""
    script = Script()
    for text in draw(st.lists(texts, max_size=2)):
        script = script.reasoning(text)
    for text in draw(st.lists(texts, max_size=5)):
        script = script.text(text)
    if tool_calls:
        arguments = st.dictionaries(texts, json_values(4), max_size=3)
        for value in draw(st.lists(arguments, max_size=3)):
            script = script.tool_call(draw(st.sampled_from(("bash", "read_file", "search"))), value)
    if broken:
        ends = (Script.disconnect, Script.stall, Script.client_leaves, Script.error)
        return draw(st.sampled_from(ends))(script)
    return script.split(draw(st.integers(1, 12))) if draw(st.booleans()) else script


@st.composite
def requests(draw: st.DrawFn, wire_format: str, *, stream: bool | None = None) -> dict[str, Any]:
    """A request body, parsed, with fields that the wire format does not know."""
    streamed = draw(st.booleans()) if stream is None else stream
    extra = draw(st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), json_values(4), max_size=2))
    return {**extra, **request_for(wire_format, draw(texts), stream=streamed)}


def chunkings(body: bytes) -> st.SearchStrategy[list[bytes]]:
    """Ways to cut `body` into pieces that are not empty."""
    places = st.sets(st.integers(1, max(len(body) - 1, 1)), max_size=12)
    return places.map(lambda chosen: [piece for piece in _cut(body, sorted(chosen)) if piece])


def cuts() -> st.SearchStrategy[Cut]:
    """A cut for `run(..., cuts=[cut])`: pieces of sizes that repeat."""

    def cut(sizes: list[int]) -> Cut:
        def pieces(run: list[bytes]) -> list[bytes]:
            body, found, at = b"".join(run), list[bytes](), 0
            while at < len(body):
                size = sizes[len(found) % len(sizes)]
                found.append(body[at : at + size])
                at += size
            return found

        return Cut(f"in pieces of {sizes}", pieces)

    return st.lists(st.integers(1, 200), min_size=1, max_size=5).map(cut)


def _cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *places, len(body)]
    return [body[start:end] for start, end in pairwise(edges)]
