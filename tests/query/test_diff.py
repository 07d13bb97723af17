"""What a diff says of requests in three wire formats, and of responses; and who did it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.query import Change, Diff, diff_of
from luthien_guard.store import Row, chained, payload_of


def rows_of(*facts: tuple[str, str | None, dict[str, Any]]) -> list[Row]:
    rows: list[Row] = []
    for seq, (type, policy, details) in enumerate(facts):
        before = rows[-1].hash if rows else ""
        rows.append(chained("c", seq, 1.0, type, policy, payload_of(details), before))
    return rows


def request_diff(before: Any, after: Any, **by: list[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    changed = [("policy.changed", policy, {"request": keys}) for policy, keys in by.items()]
    came, sent = ({"body": json.dumps(body)} for body in (before, after))
    diff = diff_of("c", rows_of(("request.received", None, came), *changed, ("request.sent", None, sent)))
    return [(each.part, each.kind, each.policies) for each in diff.request]


TOOL = {"name": "bash", "description": "runs"}


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "tools": [TOOL]},
            {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "B"}], "tools": []},
            [("messages[1].content", "changed"), ("tools[0]", "removed")],
        ),
        (
            {"system": [{"type": "text", "text": "be"}], "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            {"system": [{"type": "text", "text": "be kind"}], "messages": [{"role": "user", "content": [{"type": "text", "text": "y"}]}], "max_tokens": 5},
            [("system[0].text", "changed"), ("messages[0].content[0].text", "changed"), ("max_tokens", "added")],
        ),
        (
            {"instructions": "a", "input": [{"role": "user", "content": "x"}], "temperature": 1},
            {"instructions": "b", "input": [{"role": "developer", "content": "first"}, {"role": "user", "content": "x"}]},
            [("instructions", "changed"), ("input[0]", "added"), ("temperature", "removed")],
        ),
    ],
    ids=["openai.chat", "anthropic.messages", "openai.responses"],
)  # fmt: skip
def test_the_parts_of_a_request(before: Any, after: Any, parts: list[tuple[str, str]]) -> None:
    assert [(part, kind) for part, kind, _ in request_diff(before, after)] == parts


def test_each_key_of_a_request_names_who_changed_it() -> None:
    found = request_diff(
        {"messages": ["a"], "model": "m"}, {"messages": ["b"], "model": "n"}, one=["messages", "model"], two=["model"]
    )  # fmt: skip
    assert found == [("messages[0]", "changed", ("one",)), ("model", "changed", ("one", "two"))]


def test_a_body_that_is_no_json_is_compared_as_text() -> None:
    rows = rows_of(("request.received", None, {"body": "{"}), ("request.sent", None, {"body": "{}"}))
    assert diff_of("c", rows).request == (Change("body", "changed", "{", "{}"),)


def test_what_was_kept_as_a_hash_only_is_said() -> None:
    rows = rows_of(
        ("request.received", None, {"degraded": True, "sha256": "0", "length": 9}),
        ("request.sent", None, {"body": "{}"}),
    )
    diff = diff_of("c", rows)
    assert not diff
    assert diff.notes == ("the request was kept as hash and length only: there was no room",)


# -- responses ---------------------------------------------------------------------------------------------------------


def side(
    *texts: tuple[str, int, str], calls: Any = (), reason: str | None = "stop", **more: Any
) -> dict[str, Any]:
    said = [{"channel": channel, "index": index, "text": text} for channel, index, text in texts]
    choice = {"choice": 0, "texts": said, "tool_calls": list(calls), "finish_reason": reason}
    return {"model": "m", "choices": [choice], "usage": None, **more}


def call(id: str | None, arguments: str = "{}", name: str = "bash", kind: str = "function") -> dict[str, Any]:
    return {"id": id, "name": name, "arguments": arguments, "kind": kind}


def response_diff(before: Any, after: Any, *facts: tuple[str, str, dict[str, Any]]) -> Diff:
    return diff_of(
        "c", rows_of(*facts, ("response.received", None, before), ("response.released", None, after))
    )


def test_each_text_is_a_part_of_its_own() -> None:
    diff = response_diff(
        side(("reasoning", 0, "hm"), ("content", 1, "a"), ("content", 2, "b")),
        side(("reasoning", 0, "HM"), ("content", 1, "a"), ("content", 2, "B")),
        ("policy.changed", "upper", {"channel": "content", "choice": 0, "index": 2}),
        ("policy.changed", "quiet", {"channel": "reasoning", "choice": 0, "index": 0}),
    )
    assert diff.response == (
        Change("choice 0 reasoning", "changed", "hm", "HM", ("quiet",)),
        Change("choice 0 content 2", "changed", "b", "B", ("upper",)),
    )


def test_a_tool_call_names_only_who_touched_it() -> None:
    diff = response_diff(
        side(calls=[call("1"), call("2"), call("3")]),
        side(calls=[call("1", '{"safe":true}'), call("3", kind="custom")]),
        ("policy.changed", "safe", {"choice": 0, "tool_call": "1", "tool": "bash", "to": "call"}),
        ("policy.verdict", "deny", {"choice": 0, "tool_call": "2", "verdict": "block", "enforced": True}),
        ("policy.verdict", "shadow", {"choice": 0, "tool_call": "2", "verdict": "block", "enforced": False}),
    )
    assert [(each.kind, each.before, each.after, each.policies) for each in diff.response] == [
        ("changed", "bash({})", 'bash({"safe":true})', ("safe",)),
        ("removed", "bash({})", None, ("deny",)),
        ("changed", "bash({})", "bash({}) [custom]", ("deny",)),
    ]


def test_a_call_that_became_text_names_only_who_replaced_it() -> None:
    diff = response_diff(
        side(calls=[call("1"), call("2"), call("3")]),
        side(calls=[], said=["no", "no", "no"]),
        ("policy.changed", "writes", {"choice": 0, "tool_call": "1", "tool": "bash", "to": "text"}),
        (
            "policy.verdict",
            "deny",
            {"choice": 0, "tool_call": "2", "tool": "bash", "verdict": "block", "enforced": True},
        ),
        (
            "policy.error",
            "broken",
            {"choice": 0, "tool_call": "3", "tool": "bash", "error": "x", "enforced": True},
        ),
        (
            "policy.error",
            "forgiven",
            {"choice": 0, "tool_call": "3", "tool": "bash", "error": "x", "enforced": False},
        ),
    )
    assert [each.policies for each in diff.response[:3]] == [("writes",), ("deny",), ("broken",)]


def test_ids_that_upstream_gave_twice_or_never_hide_nothing() -> None:
    diff = response_diff(
        side(calls=[call("1", "a"), call("1", "b"), call(None, "c")]),
        side(calls=[call("1", "a"), call(None, "d")]),
    )
    assert [(each.before, each.after) for each in diff.response] == [
        ("bash(b)", None),
        ("bash(c)", "bash(d)"),
    ]


def test_an_answer_that_was_cut_off_names_who_ended_it() -> None:
    diff = response_diff(
        side(("content", 0, "one two"), reason="stop"),
        side(("content", 0, "one "), reason="stop", said=["blocked"]),
        (
            "policy.verdict",
            "judge",
            {"channel": "reasoning", "choice": 0, "verdict": "abort", "enforced": True},
        ),
    )
    assert [(each.part, each.policies) for each in diff.response] == [
        ("choice 0 content", ("judge",)),
        ("said by the guard", ("judge",)),
    ]


_texts = st.lists(
    st.tuples(st.sampled_from(["content", "reasoning", "refusal"]), st.integers(0, 2), st.text("ab", max_size=3)),
    max_size=4, unique_by=lambda each: each[:2],
)  # fmt: skip
_sides = st.builds(
    lambda texts, ids, reason: side(
        *texts, calls=[call(id, arguments) for id, arguments in ids], reason=reason
    ),
    _texts,
    st.lists(st.tuples(st.sampled_from(["1", "2", None]), st.sampled_from(["{}", "[]"])), max_size=3),
    st.sampled_from(["stop", "length", None]),
)


@given(before=_sides, after=_sides)
def test_the_changes_turn_what_came_into_what_left(before: Any, after: Any) -> None:
    """As sets of parts: what was removed or changed goes, what was added or changed comes."""
    diff = response_diff(before, after)
    left = _said(before)
    for each in diff.response:
        if each.before is not None:
            left.remove(each.before)
        if each.after is not None:
            left.append(each.after)
    assert sorted(left) == sorted(_said(after))
    assert bool(diff) == (_keyed(before) != _keyed(after))


def _said(side: Any) -> list[str]:
    (choice,) = side["choices"]
    calls = [f"{each['name']}({each['arguments']})" for each in choice["tool_calls"]]
    reason = choice["finish_reason"]
    return [each["text"] for each in choice["texts"]] + calls + ([] if reason is None else [reason])


def _keyed(side: Any) -> Any:
    (choice,) = side["choices"]
    texts = {(each["channel"], each["index"]): each["text"] for each in choice["texts"]}
    calls: dict[str | None, list[str]] = {}
    for each in choice["tool_calls"]:
        calls.setdefault(each["id"], []).append(each["arguments"])
    return texts, calls, choice["finish_reason"]


@pytest.mark.parametrize("enforced", [True, False])
def test_a_request_that_was_stopped_is_told(enforced: bool) -> None:
    verdict = {"hook": "on_request_started", "verdict": "block", "reason": "a word", "enforced": enforced}
    rows = rows_of(("request.received", None, {"body": "{}"}), ("policy.verdict", "words", verdict))
    told = ("the request was not sent: words: a word",)
    assert diff_of("c", rows) == Diff("c", (), (), told if enforced else ())
