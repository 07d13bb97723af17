"""Edits, pieces and unified lines: each rebuilds what it was made from."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from luthien_guard.query import pieces, unified
from luthien_guard.query.alignment import Work, aligned
from luthien_guard.query.edits import MISSING, Edit, edits

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(before=_json, after=_json)
def test_no_edit_means_the_same_json(before: Any, after: Any) -> None:
    assert (not list(edits(before, after))) == (canonical(before) == canonical(after))


@given(before=st.lists(_json, max_size=6), after=st.lists(_json, max_size=6))
def test_edits_of_a_list_make_the_new_one(before: list[Any], after: list[Any]) -> None:
    _check(before, after)


@given(before=_json, after=_json)
def test_edits_of_a_document_make_the_new_one(before: Any, after: Any) -> None:
    _check(before, after)


def _check(before: Any, after: Any) -> None:
    """Level by level: the edits below a place make what is there."""
    assert canonical(_made(before, list(edits(before, after)))) == canonical(after)


def _made(value: Any, found: list[Edit]) -> Any:
    if not found:
        return value
    if len(found) == 1 and not found[0].path:
        return found[0].after
    below: dict[str | int, list[Edit]] = {}
    added: list[tuple[str | int, Any]] = []
    for edit in found:
        if len(edit.path) == 1 and edit.before is MISSING:
            added.append((edit.path[0], edit.after))
        else:
            below.setdefault(edit.path[0], []).append(Edit(edit.path[1:], edit.before, edit.after))
    if isinstance(value, dict):
        made = {key: _made(each, below.get(key, [])) for key, each in value.items()}
        made.update(added)
        return {key: each for key, each in made.items() if each is not MISSING}
    items = [_made(each, below.get(at, [])) for at, each in enumerate(value)]
    items = [each for each in items if each is not MISSING]
    for at, each in added:
        items.insert(int(at), each)
    return items


def test_null_is_a_value_and_true_is_no_number() -> None:
    assert list(edits({"a": None}, {})) == [Edit(("a",), None, MISSING)]
    assert list(edits({"a": [1]}, {"a": [True]})) == [Edit(("a", 0), 1, True)]
    assert list(edits({"n": 1}, {"n": 1.0})) == [Edit(("n",), 1, 1.0)]


_texts = st.text("ab \n.é", max_size=40)


@given(before=_texts, after=_texts)
def test_pieces_make_both_texts(before: str, after: str) -> None:
    found = pieces(before, after)
    assert "".join(each.text for each in found if each.kind != "added") == before
    assert "".join(each.text for each in found if each.kind != "removed") == after
    assert all(each.text for each in found)


@given(before=_texts, after=_texts)
def test_unified_lines_make_both_texts(before: str, after: str) -> None:
    assume(before != after)
    lines = unified(before, after, context=1000)
    assert "\n".join(each[2:] for each in lines if each[0] != "+") == before
    assert "\n".join(each[2:] for each in lines if each[0] != "-") == after


def test_words_are_told_apart() -> None:
    found = pieces("one line\nbe kind now\n", "one line\nbe cruel now\n")
    assert [(each.kind, each.text) for each in found] == [
        ("same", "one line\n"),
        ("same", "be "),
        ("removed", "kind "),
        ("added", "cruel "),
        ("same", "now\n"),
    ]


def test_lines_far_from_a_change_are_counted() -> None:
    text = "\n".join(map(str, range(20)))
    lines = unified(text, text.replace("10", "ten"))
    assert lines[0] == "  (7 more lines)"
    assert lines[4:6] == ["- 10", "+ ten"]


@given(old=st.text("abc", max_size=30), new=st.text("abc", max_size=30))
def test_runs_are_those_of_difflib(old: str, new: str) -> None:
    old, new = f"<{old}>", f"({new})"  # what they begin and end with in common is taken off first
    expected = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    found = [(left.start, left.stop, right.start, right.stop) for left, right in aligned(old, new)]
    assert found == [tuple(each[1:]) for each in expected]


def test_thousands_of_changes_are_compared_within_a_bound() -> None:
    """Every second line is another one: the search for the longest run would go through the rest for each."""
    old = [str(number) for number in range(8_000)]
    new = [line if number % 2 else f"x{number}" for number, line in enumerate(old)]
    runs = list(aligned(old, new, Work(200_000)))
    assert [part for left, _ in runs for part in old[left]] == old
    assert [part for _, right in runs for part in new[right]] == new
    assert [(left.stop - left.start, right.stop - right.start) for left, right in runs[:20]] == [(1, 1)] * 20
    assert max(left.stop - left.start for left, _ in runs) > 7_000, "the rest is one run"


def test_what_belongs_together_is_compared_within_one_bound() -> None:
    """Also where each part of it is small."""
    words = [str(number) for number in range(600)]
    before = "".join(f"{at} {' '.join(words)}\n\n" for at in range(100))
    after = "".join(f"{at}x {' x '.join(words)}\n\n" for at in range(100))
    found = pieces(before, after)
    assert "".join(each.text for each in found if each.kind != "added") == before
    assert "".join(each.text for each in found if each.kind != "removed") == after
    assert len(found) < 100 * 600


def test_what_a_stranger_repeats_is_compared_within_a_bound() -> None:
    """Thousands of one word in another order: the search for the longest run would look at each pair, again and again."""
    one, other = ["a", "b"] * 20_000, ["b", "a", "b", "b"] * 10_000 + ["c"]
    steps = list(aligned(one, other))
    assert [part for left, _ in steps for part in one[left]] == one
    assert [part for _, right in steps for part in other[right]] == other
    pieces("a b " * 200_000, "b a c " * 200_000)
    assert len(list(edits([*range(50_000)], [*range(1, 50_001)]))) == 2
