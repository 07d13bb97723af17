"""Cuts lose nothing, add nothing and keep pauses where they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.testing import Cut, strategies
from luthien_guard.testing.cuts import cuts_for
from luthien_guard.testing.rendering import Part
from luthien_guard.testing.script import Stall

PARTS = st.lists(st.binary(min_size=1, max_size=20) | st.builds(Stall, st.just(1.0)), max_size=8)


def between_pauses(parts: list[Part]) -> list[bytes]:
    runs = [b""]
    for part in parts:
        if isinstance(part, bytes):
            runs[-1] += part
        else:
            runs.append(b"")
    return runs


@given(PARTS, st.data())
def test_every_cut_keeps_the_bytes_between_two_pauses(parts: list[Part], data: st.DataObject) -> None:
    body = b"".join(part for part in parts if isinstance(part, bytes))
    for cut in [*cuts_for("every", body), data.draw(strategies.cuts())]:
        assert between_pauses(list(cut(parts))) == between_pauses(parts), cut.name


def test_every_is_every_byte() -> None:
    names = [cut.name for cut in cuts_for("every", b"abcd")]
    assert [name for name in names if name.startswith("in two")] == [
        f"in two at byte {at}" for at in (1, 2, 3)
    ]


def test_a_slip_is_no_way_to_cut() -> None:
    with pytest.raises(ValueError, match="cuts is 'evry': use whole, some, every"):
        cuts_for("evry", b"abcd")  # type: ignore[arg-type]


def test_own_cuts_are_taken_as_they_are() -> None:
    mine = Cut("mine", lambda run: run)
    assert cuts_for([mine], b"abcd") == [mine]


@given(st.binary(max_size=200).flatmap(lambda body: st.tuples(st.just(body), strategies.chunkings(body))))
def test_chunkings_are_the_body_in_pieces(case: tuple[bytes, list[bytes]]) -> None:
    body, pieces = case
    assert b"".join(pieces) == body
    assert all(pieces)
