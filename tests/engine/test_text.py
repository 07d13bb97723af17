"""Texts through the chain: identity, holds, windows, edits, verdicts, whatever the cut."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.events import ContentChunk, ContentCompleted
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.policy import Abort, Block, Policy, PolicyContext, hookimpl
from luthien_guard.records import EventType
from tests.engine.drive import Bench
from tests.engine.lines import wire

pytestmark = pytest.mark.anyio


class Each(Policy):
    """Calls a function on every delta."""

    def __init__(self, does: Any, lookahead: int = 0, channels: frozenset[str] | None = None) -> None:
        self._does = does
        self.lookahead = lookahead
        self.channels = channels

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Any:
        return self._does(chunk)


class Whole(Policy):
    def __init__(self, does: Any) -> None:
        self._does = does

    @hookimpl
    async def on_content_completed(self, content: ContentCompleted) -> Any:
        return self._does(content)


def redact(pattern: str, new: str = "***", lookahead: int = 8) -> Policy:
    def edit(chunk: ContentChunk) -> ContentChunk:
        return chunk.edit(*((m.start(), m.end(), new) for m in re.finditer(pattern, chunk.text)))

    return Each(edit, lookahead=lookahead, channels=frozenset({"content"}))


def forbid(word: str, lookahead: int | None = None) -> Policy:
    def look(chunk: ContentChunk) -> Block | None:
        return Block("forbidden", "NO") if word in chunk.text else None

    return Each(look, lookahead=len(word) if lookahead is None else lookahead)


async def test_what_no_policy_changed_leaves_byte_for_byte() -> None:
    odd = b'data:  {"text" : "a\\u0062", "n":1.0}\r\n\r\n: OPENROUTER PROCESSING\n\ndata: {"text":"c"}\n\n'
    for policies in (
        [],
        [Each(lambda _: None)],
        [Whole(lambda _: None)],
        [Each(lambda _: None, lookahead=99)],
    ):
        for step in (None, 1, 7):
            assert (await Bench(policies).run(raw=odd, step=step)).data == odd


async def test_a_chunk_leaves_at_once_where_nothing_holds_it() -> None:
    run = await Bench([Each(lambda _: None)]).run({"text": "a"}, {"text": "b"})
    assert [release.held for release in run.releases] == [0, 0]


async def test_zero_one_and_many_chunks_may_come_back() -> None:
    async def text(result: Any) -> str:
        return (await Bench([Each(result)]).run({"text": "ab"}, {"finish": "stop"})).text

    assert await text(lambda chunk: []) == ""
    assert await text(lambda chunk: chunk.replace(text="X")) == "X"
    assert await text(lambda chunk: [chunk, chunk.replace(text="!")]) == "ab!"


async def test_policies_are_a_chain_and_tails_pass_through_those_after() -> None:
    first = redact("secret", "open sesame")
    second = Each(lambda chunk: chunk.replace(text=chunk.text.upper()), channels=frozenset({"content"}))
    run = await Bench([first, second]).run(
        {"text": "a sec"}, {"text": "ret"}, {"text": " b"}, {"finish": "stop"}
    )
    assert run.text == "A OPEN SESAME B"


async def test_an_echo_repeats_what_left() -> None:
    run = await Bench([redact("ab")]).run(
        {"text": "a"}, {"text": "b"}, {"end": "0"}, {"echo": "ab"}, {"finish": "x"}
    )
    assert run.seen[-2] == {"echo": "***"}


def deltas(text: str, cuts: list[int]) -> list[dict[str, str]]:
    """Deltas of these lengths, and one of what is left."""
    ends = list(accumulate(cuts))
    return [{"text": text[start:end]} for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(
    text=st.text("abc ", max_size=40),
    cuts=st.lists(st.integers(1, 6), max_size=20),
    lookahead=st.integers(3, 9),
    pattern=st.sampled_from(["abc", "a", "ab|abc", "abc|ab", "aa", "aba", " c", "[ab]{1,3}"]),
    new=st.sampled_from(["", "X", "abcabc"]),
)
def test_an_edit_is_the_same_however_the_text_was_cut(
    text: str, cuts: list[int], lookahead: int, pattern: str, new: str
) -> None:
    chunks = deltas(text, cuts)

    async def run() -> str:
        return (await Bench([redact(pattern, new, lookahead)]).run(*chunks, {"finish": "stop"})).text

    assert anyio.run(run) == re.sub(pattern, new, text)


@given(text=st.text("ab", max_size=12), cuts=st.lists(st.integers(1, 4), max_size=8))
def test_a_forbidden_word_never_leaves_whole_and_a_clean_text_always_does(text: str, cuts: list[int]) -> None:
    chunks = deltas(text, cuts)

    async def run() -> Any:
        return await Bench([forbid("aba")]).run(*chunks, {"finish": "stop"})

    result = anyio.run(run)
    if "aba" in text:
        assert result.outcome.status is OutcomeStatus.BLOCKED
        assert "aba" not in result.text
        assert result.seen[-1] == {"text": "NO", "finish": "stop"}
    else:
        assert result.text == text
        assert result.outcome.status is OutcomeStatus.SUCCESS


@pytest.mark.parametrize("lookahead", [1, 5, 64])
async def test_the_declared_bound_is_what_is_held(lookahead: int) -> None:
    bench = Bench([Each(lambda _: None, lookahead=lookahead)])
    run = await bench.run(*({"text": letter} for letter in "x" * 200), step=len(wire({"text": "x"})))
    for count, release in enumerate(run.releases[:200], start=1):
        left = sum(len(each.items) for each in run.releases[:count])
        assert left == max(count - lookahead, 0)
        assert release.held == (count - left) * len(wire({"text": "x"}))


async def test_a_whole_block_is_held_until_it_ends_and_may_be_changed() -> None:
    bench = Bench([Whole(lambda content: content.replace(text=content.text[::-1]))])
    run = await bench.run(
        {"text": "ab"}, {"text": "cd"}, {"end": "0"}, {"text": "ef", "id": "1"}, {"finish": "x"}
    )
    assert run.text == "dcbafe"


async def test_blocked_text_ends_the_answer_there() -> None:
    run = await Bench([forbid("bad")]).run(
        {"text": "good "}, {"text": "bad"}, {"text": " more"}, {"finish": "stop"}
    )
    assert run.seen == [{"text": "NO", "finish": "stop"}]  # "good " was still held
    assert run.releases[-1].done
    (verdict,) = run.recorded(EventType.VERDICT)
    assert (verdict.policy, verdict.details["reason"]) == ("each", "forbidden")


async def test_what_left_before_a_block_stays_and_the_end_follows() -> None:
    run = await Bench([forbid("bad", lookahead=0)]).run(
        {"text": "good "}, {"text": "bad"}, {"finish": "stop"}, step=len(wire({"text": "good "}))
    )
    assert run.seen == [{"text": "good "}, {"text": "NO", "finish": "stop"}]


async def test_signed_text_can_be_blocked_but_not_rewritten() -> None:
    rewrite = Each(lambda chunk: chunk.replace(text="x"))
    run = await Bench([rewrite]).run({"signed": "thought"}, {"finish": "stop"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR
    assert "cannot be rewritten" in run.recorded(EventType.POLICY_ERROR)[0].details["error"]
    run = await Bench([rewrite]).run({"reasoning": "thought"}, {"finish": "stop"})
    assert run.seen[0] == {"reasoning": "x"}


async def test_unmodelled_strings_are_inspected_as_other_and_pass_unchanged() -> None:
    channels: list[str] = []
    looks = Each(lambda chunk: channels.append(chunk.channel))
    run = await Bench([looks]).run({"other": "hello"}, {"finish": "stop"})
    assert channels == ["other"]
    assert run.seen[0] == {"other": "hello"}
    assert (await Bench([forbid("hell")]).run({"other": "hello"})).seen == [{"text": "NO", "finish": "stop"}]


async def test_a_word_cut_over_two_unmodelled_strings_of_one_place_is_seen() -> None:
    run = await Bench([forbid("hello")]).run({"other": "hel"}, {"other": "lo"}, {"finish": "stop"})
    assert run.seen[-1] == {"text": "NO", "finish": "stop"}
    assert {"other": "lo"} not in run.seen


async def test_comments_are_text_but_known_keepalives_are_not() -> None:
    run = await Bench([forbid("secret")]).run(raw=b": OPENROUTER PROCESSING\n\n: a secret\n\n")
    assert run.seen == [{"text": "NO", "finish": "stop"}]


@pytest.mark.parametrize("nonsense", ["text", 7, object(), [1], {"a": 1}, True])
async def test_nonsense_is_a_failure_and_blocks(nonsense: Any) -> None:
    run = await Bench([Each(lambda _: nonsense)]).run({"text": "a"}, {"finish": "stop"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR
    assert "a" not in [each.get("text") for each in run.seen]


async def test_a_coroutine_that_a_hook_forgot_to_await_is_nonsense_and_does_not_run() -> None:
    ran: list[bool] = []

    async def forgotten() -> None:
        ran.append(True)

    class Forgets(Policy):
        def __init__(self, coroutine: Any) -> None:
            self._coroutine = coroutine

        @hookimpl
        async def on_content_chunk(self) -> Any:
            return self._coroutine

    coroutine = forgotten()
    try:
        for texts in (["a"], ["a", "b", "c"]):
            run = await Bench([Forgets(coroutine)]).run(
                *({"text": text} for text in texts), {"finish": "stop"}
            )
            assert run.outcome is not None
            assert run.outcome.status is OutcomeStatus.POLICY_ERROR
            assert run.text not in texts
    finally:
        coroutine.close()
    assert not ran


@pytest.mark.parametrize("edits", [((2, 1, ""),), ((0, 3, ""),), ((1, 2, ""), (0, 1, "")), ((-1, 1, ""),)])
async def test_edits_that_do_not_fit_are_a_failure(edits: Any) -> None:
    run = await Bench([Each(lambda chunk: chunk.edit(*edits))]).run({"text": "ab"}, {"finish": "stop"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RecursionError(),
        MemoryError(),
        StopAsyncIteration(),
        ExceptionGroup("g", [OSError()]),
    ],
)
async def test_a_policy_that_raises_blocks_or_is_forgiven_as_configured(error: Exception) -> None:
    def fail(_: Any) -> None:
        raise error

    run = await Bench([Each(fail)]).run({"text": "a"}, {"finish": "stop"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR
    assert run.outcome.policy == "each"
    run = await Bench([{"use": Each(fail), "on_error": "allow"}]).run({"text": "a"}, {"finish": "stop"})
    assert run.text == "a"
    assert run.outcome == run.outcome.__class__(OutcomeStatus.SUCCESS)


async def test_a_shadow_records_what_it_would_have_done_and_holds_nothing() -> None:
    for policies, mode in (([{"use": forbid("b"), "mode": "shadow"}], "enforce"), ([forbid("b")], "observe")):
        run = await Bench(policies, mode=mode).run({"text": "abc"}, {"text": "d"}, {"finish": "stop"})
        assert run.text == "abcd"
        assert run.recorded(EventType.VERDICT)[0].details["enforced"] is False
        assert [release.held for release in run.releases] == [0, 0]


async def test_uninspectable_bytes_are_blocked_only_where_a_policy_enforces() -> None:
    raw = b"data: {nope\n\n"
    assert (await Bench([]).run(raw=raw)).data == raw
    assert (await Bench(["noop"]).run(raw=raw)).data == raw
    assert (await Bench([Each(lambda _: None)], mode="observe").run(raw=raw)).data == raw
    assert (await Bench([Each(lambda _: None)]).run(raw=raw)).seen[-1]["finish"] == "stop"


async def test_an_abort_ends_the_exchange() -> None:
    run = await Bench([Each(lambda _: Abort("enough"))]).run({"text": "a"}, {"text": "b"})
    assert run.releases[-1].done
    assert run.seen == [{"text": "⛔ Blocked by the policy each.", "finish": "stop"}]


MARKS = {
    "behind": lambda text: [(m.end(), m.end(), "(!)") for m in re.finditer("aba", text)],
    "before": lambda text: [(m.start(), m.start(), "(!)") for m in re.finditer("aba", text)],
    "both": lambda text: [
        edit
        for m in re.finditer("aba", text)
        for edit in ((m.start(), m.start(), "<"), (m.start(), m.end(), "X"), (m.end(), m.end(), ">"))
    ],
}
PUT_IN = {"behind": r"\g<0>(!)", "before": r"(!)\g<0>", "both": "<X>"}


@given(
    text=st.text("ab ", max_size=30),
    cuts=st.lists(st.integers(1, 6), max_size=20),
    lookahead=st.integers(3, 7),
    where=st.sampled_from(list(MARKS)),
)
def test_what_is_put_in_is_the_same_however_the_text_was_cut(
    text: str, cuts: list[int], lookahead: int, where: str
) -> None:
    policy = Each(lambda chunk: chunk.edit(*MARKS[where](chunk.text)), lookahead=lookahead)
    assert in_deltas(policy, text, cuts) == re.sub("aba", PUT_IN[where], text)


@given(
    text=st.text("ab ", max_size=30),
    cuts=st.lists(st.integers(1, 6), max_size=20),
    lookahead=st.integers(3, 7),
    new=st.sampled_from(["", "X", "ab[gone]", "[gone]ba", "abba", "a"]),
)
def test_a_text_that_is_given_anew_is_the_same_however_it_was_cut(
    text: str, cuts: list[int], lookahead: int, new: str
) -> None:
    policy = Each(lambda chunk: chunk.replace(text=chunk.text.replace("aba", new)), lookahead=lookahead)
    assert in_deltas(policy, text, cuts) == text.replace("aba", new)


async def test_a_text_that_is_changed_everywhere_is_not_held_for_ever() -> None:
    policy = Each(lambda chunk: chunk.replace(text=chunk.text.swapcase()), lookahead=4)
    run = await Bench([policy]).run(*({"text": "words and words "} for _ in range(400)), {"finish": "stop"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR
    assert "chunk.edit" in run.recorded(EventType.POLICY_ERROR)[0].details["error"]


@pytest.mark.parametrize(
    "does",
    [
        lambda chunk: [chunk.replace(text=None)],
        lambda chunk: chunk.edit((0,)),
        lambda chunk: chunk.edit((0, 1, None)),
        lambda chunk: chunk.edit(("0", "1", "x")),
        lambda chunk: chunk.edit(7),
        lambda chunk: chunk.replace(text="\ud800"),
        lambda chunk: [chunk, chunk.replace(text="\udfff")],
        lambda chunk: chunk.edit((0, 1, "\ud800")),
        lambda chunk: chunk.replace(channel="reasoning"),
        lambda chunk: [chunk, chunk.replace(text="", channel="refusal")],
    ],
)
@pytest.mark.parametrize("lookahead", [0, 3])
async def test_nonsense_inside_of_a_result_blocks(does: Any, lookahead: int) -> None:
    run = await Bench([Each(does, lookahead=lookahead)]).run({"text": "marker"}, {"finish": "stop"})
    assert run.outcome is not None
    assert (run.outcome.status, run.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "each")
    assert "marker" not in run.text


@pytest.mark.parametrize("does", [lambda _: "\ud800", lambda content: content.replace(channel="reasoning")])
async def test_whole_text_that_cannot_be_said_blocks(does: Any) -> None:
    run = await Bench([Whole(does)]).run({"text": "marker"}, {"finish": "stop"})
    assert run.outcome is not None
    assert (run.outcome.status, run.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "whole")


def in_deltas(policy: Policy, text: str, cuts: list[int]) -> str:
    chunks = deltas(text, cuts)

    async def run() -> str:
        return (await Bench([policy]).run(*chunks, {"finish": "stop"})).text

    return anyio.run(run)


@given(text=st.text("ab ", min_size=1, max_size=20), cuts=st.lists(st.integers(1, 6), max_size=20))
def test_the_last_look_comes_whatever_was_changed_before(text: str, cuts: list[int]) -> None:
    def signed(chunk: ContentChunk) -> ContentChunk:
        edits = [(m.start(), m.end(), "X") for m in re.finditer("aba", chunk.text)]
        end = len(chunk.text)
        return chunk.edit(*edits, *([(end, end, " -- checked")] if chunk.final else []))

    assert in_deltas(Each(signed, lookahead=3), text, cuts) == re.sub("aba", "X", text) + " -- checked"
