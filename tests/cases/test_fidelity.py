"""What other systems lost of a stream (F1-F21): each is a test here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Policy, ToolCall, hookimpl
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.testing import Script, run
from tests.cases.chat_wire import DONE, call, chunk, through

pytestmark = pytest.mark.anyio


class Looks(Policy):
    """Covers texts and calls and objects to nothing."""

    lookahead = 8

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> None: ...


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no", "NO")


class Banana(Policy):
    """Replaces a word that may be cut."""

    lookahead = 6
    channels = frozenset({"content"})

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        at = chunk.text.find("banana")
        return chunk.edit((at, at + 6, "apple")) if at >= 0 else None


ROLE = chunk({"role": "assistant", "content": ""})
USAGE = chunk(None, usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})


@pytest.mark.parametrize(
    "body",
    [
        ROLE + chunk({"content": "hi"}, system_fingerprint="fp_1") + chunk({}, finish="stop") + DONE,  # F1
        ROLE + chunk({"content": "hi"}) + chunk({}, finish="stop") + USAGE + DONE,  # F2
        ROLE + chunk({"content": "hi"}, finish="stop") + DONE,  # F3
        chunk({"content": "hi", "tool_calls": [call(0, "a", "f", "{}")]}, finish="tool_calls") + DONE,  # F4
        # F5
        chunk({"reasoning_content": "hm", "refusal": "no", "audio": {"id": "a", "data": "AA=="}}) + DONE,
        chunk({"content": "x", "annotations": [{"type": "url_citation", "url": "http://x"}]}) + DONE,  # F5
        ROLE + chunk({}, finish="stop") + DONE,  # F6
        ROLE + chunk({"content": "a"}) + chunk({}, finish="stop", x_new={"deep": ["field"]}) + DONE,  # F21
    ],
    ids=[
        "envelope",
        "usage",
        "finish-with-text",
        "text-with-calls",
        "channels",
        "annotations",
        "empty",
        "new-fields",
    ],
)
async def test_f1_to_f6_what_nobody_changes_arrives_to_the_letter(body: bytes) -> None:
    for step in (0, 1, 11):
        assert (await through([Looks()], body, step=step)).body == body


async def test_f4_the_text_beside_a_blocked_call_survives() -> None:
    body = chunk({"content": "hi", "tool_calls": [call(0, "a", "f", "{}")]}, finish="tool_calls") + DONE
    sent = await through([NoCalls()], body)
    assert "hi" in sent.left.text
    assert "NO" in sent.left.text
    assert sent.left.finish == ("stop",)


async def test_f9_f10_forwarding_is_the_default_and_happens_once() -> None:
    class OnlyCalls(Policy):
        @hookimpl
        def on_tool_call_completed(self, call: ToolCall) -> None: ...

        @hookimpl
        def on_chunk_started(self) -> None: ...

        @hookimpl
        def on_chunk_completed(self) -> None: ...

    for each in await run(OnlyCalls(), Script().text("one two").tool_call("f", {}).split(2)):
        assert each.transcript.text == "one two"
        assert len(each.transcript.tool_calls) == 1


async def test_f12_a_word_is_replaced_the_same_however_it_was_cut() -> None:
    text = "a banana and a banana"
    for every in range(1, len(text)):
        for each in await run(Banana(), Script().text(text).split(every)):
            assert each.transcript.text == "a apple and a apple"


async def test_f13_the_tail_comes_before_the_finish() -> None:
    body = (
        chunk({"content": "one two three"})
        + chunk({"content": " fo"})
        + chunk({"content": "ur"}, finish="stop")
        + DONE
    )
    sent = await through([Looks(), {"use": "uppercase-nth-word", "config": {"n": 4}}], body)
    assert sent.left.text == "one two three FOUR"
    assert sent.left.problems == []


async def test_f14_a_renamed_tool_is_renamed_everywhere() -> None:
    class Rename(Policy):
        @hookimpl
        def on_tool_call_completed(self, call: ToolCall) -> ToolCall:
            return call.replace(name="safe_bash", arguments='{"dry":true}')

    for each in await run(Rename(), Script().tool_call("bash", {"c": "ls"}).finish("tool_calls")):
        assert [(one.name, json.loads(one.arguments)) for one in each.transcript.tool_calls] == [
            ("safe_bash", {"dry": True})
        ]
        assert each.transcript.problems == []
        assert b'"ls' not in each.body


async def test_f15_arguments_that_were_cut_by_the_length_are_no_crash() -> None:
    body = chunk({"tool_calls": [call(0, "a", "f", '{"c": "l')]}) + chunk({}, finish="length") + DONE
    assert (await through([Looks()], body)).body == body
    assert (await through([NoCalls()], body)).left.finish == ("length",)


async def test_f16_anthropic_messages_stay_legal_whatever_is_blocked() -> None:
    class NoFirst(Policy):
        def __init__(self, blocked: frozenset[str]) -> None:
            self.blocked = blocked

        @hookimpl
        def on_tool_call_completed(self, call: ToolCall) -> Block | None:
            return Block("no", "NO") if str(call.parsed["n"]) in self.blocked else None

    script = Script().reasoning("hm").text("ok")
    for number in range(3):
        script = script.tool_call("f", {"n": number})
    for blocked in ("0", "1", "2", "01", "12", "02", "012"):
        for each in await run(NoFirst(frozenset(blocked)), script.finish("tool_calls")):
            assert each.transcript.problems == []
            assert [str(one.parsed["n"]) for one in each.transcript.tool_calls] == [
                n for n in "012" if n not in blocked
            ]
            assert each.transcript.text.count("NO") == len(blocked)


async def test_f19_an_empty_stream_is_noted_and_still_what_came() -> None:
    sent = await through([Looks()], b"")
    assert sent.body == b""


async def test_f20_what_one_policy_makes_passes_through_those_after_it() -> None:
    class Adds(Policy):
        channels = frozenset({"content"})

        @hookimpl
        def on_content_chunk(self, chunk: ContentChunk) -> list[ContentChunk]:
            return [chunk, chunk.replace(text=" tail")]

    policies = [Adds(), {"use": "uppercase-nth-word", "config": {"n": 1}}]
    for each in await run(policies, Script().text("one")):
        assert each.transcript.text == "ONE TAIL"


async def test_f21_usage_arrives_verbatim() -> None:
    usage = {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1, "new": 7}, "cost": 1e-05}
    body = ROLE + chunk({"content": "abc"}) + chunk({}, finish="stop") + chunk(None, usage=usage) + DONE
    sent = await through([{"use": "uppercase-nth-word", "config": {"n": 1}}], body)
    assert sent.left.usage == usage
    assert b"1e-05" in sent.body


# -- errors ------------------------------------------------------------------------------------------------------------


async def test_e_an_error_in_the_middle_is_the_upstreams_and_is_recorded() -> None:
    for each in await run(Looks(), Script().text("so far ").error(message="overloaded")):
        assert each.outcome is not None
        assert each.outcome.status is OutcomeStatus.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'"x"', b"{", b"\xff", b'{"model":1}', b'{"stream":"true"}', b'{"a":1,"a":2}']
)
@pytest.mark.parametrize("format", ["openai.chat", "anthropic.messages", "openai.responses"])
async def test_e4_a_malformed_request_is_answered_in_the_clients_own_shape(body: bytes, format: str) -> None:
    from luthien_guard import Guard
    from luthien_guard.exchange import RequestMetadata

    guard = Guard(["noop"])
    result = await guard.plane.decide_request(RequestMetadata("c", 0.0), format, body)
    answer = result.value.answer
    assert answer is not None
    assert answer.status == 400
    error: dict[str, Any] = json.loads(answer.body)
    assert error["error"]["message"]
    if format == "anthropic.messages":
        assert error["type"] == "error"
    await guard.plane.close("c")
    facts = guard.records_of("c")
    assert any(fact.details.get("body") for fact in facts)  # what came
    assert any(fact.details.get("status") == 400 for fact in facts)  # and why it was refused
