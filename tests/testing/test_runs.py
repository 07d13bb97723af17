"""Running a policy over a script: what the assertions accept, and what they complain about."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Abort, Block, ContentChunk, ContentCompleted, Policy, Retry, ToolCall, hookimpl
from luthien_guard.testing import WIRE_FORMATS, FakeJudge, Runs, Script, render, run

DELETION = (
    Script()
    .text("I will clean up. ")
    .tool_call("bash", {"command": "ls"})
    .tool_call("bash", {"command": "rm -rf /srv"})
)


class NoDeletions(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("deletes recursively", "Not run.") if "rm -rf" in call.arguments else None


class NoNonsense(Policy):
    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> Retry | None:
        return Retry("nonsense", model="another-model") if "nonsense" in content.text else None


class Broken(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None:
        raise RuntimeError("out of order")


class Refuses(Policy):
    @hookimpl
    def on_request_started(self, request: Any) -> Block:
        return Block("no requests today")


@pytest.mark.parametrize("given", ["openai.chat", ["openai"]])
async def test_wire_formats_that_nobody_knows_are_told(given: Any) -> None:
    with pytest.raises(ValueError, match=r"give a list of openai\.chat, "):
        await run("noop", Script().text("hi"), wire_formats=given)


async def test_every_format_streamed_and_not_and_cut() -> None:
    runs = await run("noop", DELETION)
    assert {(each.wire_format, each.stream) for each in runs} == {
        (wire_format, stream) for wire_format in WIRE_FORMATS for stream in (True, False)
    }
    runs.assert_unchanged().assert_released("I will clean up. ", tool_calls=["bash", "bash"])


async def test_every_split() -> None:
    script = Script().text("Hi.")
    runs = await run(NoDeletions(), script, cuts="every", wire_formats=["anthropic.messages"])
    assert len(runs) > len(render(script, "anthropic.messages", stream=True).body)
    runs.assert_unchanged()


async def test_a_blocked_call() -> None:
    runs = await run(NoDeletions(), DELETION)
    runs.assert_blocked("no-deletions", reason__contains="recursively", message__contains="Not run.")
    runs.no_leak("rm -rf").assert_outcome("blocked", policy="no-deletions")
    assert runs.tool_calls == (("bash", {"command": "ls"}),)
    assert runs.text.startswith("I will clean up. ")
    assert runs.upstream.text == "I will clean up. "
    runs.released_before("I will clean up. ", "rm -rf")


async def test_a_blocked_request_never_reaches_upstream() -> None:
    runs = await run(Refuses(), DELETION, cuts="whole")
    runs.assert_blocked("refuses", reason__contains="today")
    assert not any(each.upstream.called for each in runs)


async def test_blocks_that_answer_with_an_error() -> None:
    runs = await run(Refuses(), DELETION, on_block="error", cuts="whole")
    runs.assert_blocked("refuses")
    assert {each.status for each in runs} == {400, 403}
    assert all(each.transcript.error for each in runs)


async def test_another_try_gets_the_next_script() -> None:
    runs = await run(NoNonsense(), [Script().text("nonsense"), Script().text("Sense.")])
    runs.assert_released("Sense.").no_leak("nonsense")
    assert [each["model"] for each in runs.upstream.requests] == ["scripted-model", "another-model"]


async def test_a_judge() -> None:
    judge = FakeJudge({"rm -rf": 0.9})
    runs = await run("tool-call-judge", DELETION, judge=judge)
    runs.assert_blocked("tool-call-judge", reason__contains="0.90").no_leak("rm -rf")
    assert len(judge.asked) == 2 * len(runs)


@pytest.mark.parametrize("judge", [FakeJudge().raises(), FakeJudge().answers("fine")])
async def test_a_judge_that_fails(judge: FakeJudge) -> None:
    runs = await run("tool-call-judge", DELETION, judge=judge, cuts="whole")
    runs.assert_outcome("policy_error").no_leak("rm -rf").no_leak('"ls"')


async def test_a_policy_that_raises_blocks() -> None:
    runs = await run(Broken(), Script().text("Hello"), cuts="whole")
    runs.assert_blocked("broken", reason__contains="out of order").no_leak("Hello").assert_outcome(
        "policy_error"
    )


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script().text("Wait ").stall(), "timeout"),
        (Script().text("Wait ").stall(3).text("done."), "success"),
        (Script().text("Half ").disconnect(), "upstream_error"),
        (Script().text("Half ").client_leaves(), "cancelled"),
        (Script().text("Half ").error(), "upstream_error"),
        (Script().error(503), "upstream_error"),
    ],
)
async def test_how_exchanges_end(script: Script, outcome: Any) -> None:
    (await run("noop", script)).assert_outcome(outcome)


async def test_errors_of_upstream_keep_their_status_and_body() -> None:
    runs = await run(NoDeletions(), Script().error(429, message="slow down"))
    assert runs.status == 429
    runs.assert_unchanged()


async def test_raw_bytes() -> None:
    odd = b': a comment\n\ndata: {"choices": []}\n\ndata: [DONE]\n\n'
    runs = await run("noop", Script().raw(odd), wire_formats=["openai.chat"], streamed=[True])
    runs.assert_unchanged() if odd in runs[0].body else runs.no_leak("a comment")


# -- what they complain about ---------------------------------------------------------------------------------------------


class Truncates(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text[:3])


def complaint(assertion: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **kwargs)
    return str(caught.value)


async def test_complaints_say_which_run_and_why() -> None:
    runs = await run("noop", DELETION, cuts="whole")
    assert "openai.chat, streamed, frame by frame: not blocked by noop" in complaint(
        runs.assert_blocked, "noop"
    )
    assert "verdicts: none" in complaint(runs.assert_blocked)
    assert "leaked in" in complaint(runs.no_leak, "rm -rf")
    assert "did not leave" in complaint(runs.assert_released, "goodbye")
    assert "['bash', 'bash'] left" in complaint(runs.assert_released, tool_calls=["bash"])
    assert "the outcome is success" in complaint(runs.assert_outcome, "timeout")
    assert "upstream never says" in complaint(runs.released_before, "I", "goodbye")


async def test_the_wrong_policy_or_reason_is_not_a_block() -> None:
    runs = await run(NoDeletions(), DELETION, cuts="whole")
    assert "no-deletions: deletes recursively" in complaint(runs.assert_blocked, "somebody-else")
    assert "for 'weather'" in complaint(runs.assert_blocked, reason__contains="weather")


async def test_changes_are_shown() -> None:
    runs = await run(Truncates(), Script().text("Hello"), cuts="whole")
    assert "changed at byte" in complaint(runs.assert_unchanged)


async def test_runs_that_disagree_have_no_common_answer() -> None:
    one = await run("noop", Script().text("One"), cuts="whole")
    two = await run("noop", Script().text("Two"), cuts="whole")
    with pytest.raises(AssertionError, match="the text differs"):
        _ = Runs([*one, *two]).text


class HoldsEverything(Policy):
    hold = "response"

    @hookimpl
    def on_response_completed(self, response: Any) -> Abort | None:
        return None


async def test_holding_too_long_is_found() -> None:
    script = Script().text("First. ").text("Last.")
    (await run("noop", script)).released_before("First. ", "Last.")
    runs = await run(HoldsEverything(), script)
    assert "left only after upstream said" in complaint(runs.released_before, "First. ", "Last.")
