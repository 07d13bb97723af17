"""`on_chunk_completed` sees what leaves: what another policy blocked or rewrote is gone by then and cannot come back, and
both ends of the record say what really came and what really left."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from luthien_guard.events import (
    Chunk,
    ContentChunk,
    ContentCompleted,
    ResponseCompleted,
    ToolCall,
    UnknownChunk,
)
from luthien_guard.policy import Abort, Block, Policy, hookimpl
from luthien_guard.query.diff import diff_of
from luthien_guard.records import EventType, Record
from luthien_guard.store import Row, chained, payload_of
from luthien_guard.testing import Script, VirtualClock, run
from luthien_guard.testing.catalogue import BROKEN, ORDINARY
from tests.engine.drive import Bench

pytestmark = pytest.mark.anyio


#: An event that the grammar does not know passes as it came; one that a policy made is refused.
SCRIPTS = {name: script for name, script in {**ORDINARY, **BROKEN}.items() if name != "something unknown"}


class Stamps(Policy):
    @hookimpl
    def on_chunk_completed(self, chunk: Chunk) -> Chunk | None:
        return chunk.replace(data={**chunk.data, "stamp": 1}) if isinstance(chunk.data, dict) else None


class Upper(Policy):
    channels = frozenset({"content"})

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("no", "NO") if call.name == "bash" else None


class Drops(Policy):
    """Chunks of the text "b", before anybody else sees them or as they leave."""

    @hookimpl
    def on_chunk_completed(self, chunk: Chunk) -> Any:
        return [] if chunk.data and chunk.data.get("text") == "b" else None


class DropsFirst(Policy):
    @hookimpl
    def on_chunk_started(self, chunk: Chunk) -> Any:
        return [] if chunk.data and chunk.data.get("text") == "b" else None


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_last_look_changes_nothing_of_what_was_decided(name: str) -> None:
    script: Script = SCRIPTS[name]
    without = await run([Upper(), NoCalls()], script)
    stamped = await run([Upper(), NoCalls(), Stamps()], script)
    for one, other in zip(without, stamped, strict=True):
        seen = other.transcript
        if seen.error is not None:
            seen.error = {key: value for key, value in seen.error.items() if key != "stamp"}
        assert seen == one.transcript, one.label
        assert other.outcome.status == one.outcome.status, one.label
        assert (b'"stamp"' in other.body) >= (one.status == 200 and b"NO" in one.body), one.label


async def test_what_was_blocked_does_not_come_back() -> None:
    class NoCall(Policy):
        @hookimpl
        def on_tool_call_completed(self, call: ToolCall) -> Block:
            return Block("no", "NO")

    found = await Bench([NoCall(), Upper(), Stamps()]).run(
        {"text": "a", "id": "t"}, {"end": "t"}, {"call": "rm", "id": "c"}, {"called": "c"}, {"finish": "stop"}
    )
    assert found.seen == [
        {"text": "A", "id": "t", "stamp": 1},
        {"end": "t", "stamp": 1},
        {"text": "NO", "stamp": 1},
        {"finish": "stop", "stamp": 1},
    ]


CHUNKS = (
    {"text": "a", "id": "t"},
    {"text": "b", "id": "t"},
    {"text": "b", "id": "t"},
    {"end": "t"},
    {"finish": "stop"},
)


@pytest.mark.parametrize("policy", [Drops, DropsFirst])
async def test_the_record_has_what_came_and_what_left(policy: type[Policy]) -> None:
    bench = Bench([policy()], keeps_content=True)
    found = await bench.run(*CHUNKS)
    (came,) = found.recorded(EventType.RESPONSE_RECEIVED)
    (left,) = found.recorded(EventType.RESPONSE_RELEASED)
    assert (_text(came), _text(left), found.text) == ("abb", "a", "a")
    (changed,) = found.recorded(EventType.CHANGED)
    assert changed.details == {"chunk": "data"}, "once, not for each of thousands"
    (change,) = diff_of("c", _rows(found.records)).response
    assert (change.before, change.after) == ("abb", "a")
    assert change.policies == (changed.policy,)


async def test_what_no_policy_changed_is_said_once() -> None:
    found = await Bench([Drops(), DropsFirst()], keeps_content=True).run({"text": "a"}, {"finish": "stop"})
    assert len(found.recorded(EventType.RESPONSE_RECEIVED)) == 1
    assert found.recorded(EventType.RESPONSE_RELEASED) == []


async def test_an_unknown_chunk_that_was_dropped_is_on_record() -> None:
    class Deaf(Policy):
        @hookimpl
        def on_unknown_chunk(self, chunk: UnknownChunk) -> Any:
            return []

    found = await Bench([Deaf()]).run(raw=b"data: {broken\n\n")
    assert found.seen == []
    assert [record.policy for record in found.recorded(EventType.CHANGED)] == ["deaf"]


async def test_a_chunk_that_cannot_be_accepted_is_a_verdict_on_record() -> None:
    found = await Bench([Upper()]).run(raw=b"data: {broken\n\n")
    assert found.seen == [{"text": "⛔ Blocked by the policy unknown-chunk.", "finish": "stop"}]
    (verdict,) = found.recorded(EventType.VERDICT)
    assert (verdict.policy, verdict.details["enforced"]) == ("unknown-chunk", True)


@pytest.mark.parametrize("hook", ["on_chunk_started", "on_chunk_completed", "on_unknown_chunk"])
async def test_a_verdict_on_a_chunk_says_which_kind_it_concerned(hook: str) -> None:
    def stops(self: Policy, chunk: Any) -> Abort:
        return Abort("no")

    policy = type("Stops", (Policy,), {hook: hookimpl(stops)})()
    raw = b"data: {broken\n\n" if hook == "on_unknown_chunk" else b'data: {"text":"a"}\n\n'
    found = await Bench([policy]).run(raw=raw)
    (verdict,) = found.recorded(EventType.VERDICT)
    kind = "unknown" if hook == "on_unknown_chunk" else "data"
    assert (verdict.details["hook"], verdict.details["chunk"]) == (hook, kind)


def _text(record: Record) -> str:
    return "".join(text["text"] for choice in record.details["choices"] for text in choice["texts"])


def _rows(records: tuple[Record, ...]) -> list[Row]:
    return [
        chained("c", each.seq, each.at, each.type.value, each.policy, payload_of(each.details), "")
        for each in records
    ]


class HoldsText(Policy):
    channels = frozenset({"content"})

    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> None:
        """Holds the block."""


class StopsAtTheEnd(Policy):
    @hookimpl
    def on_chunk_completed(self, chunk: Chunk) -> Abort | None:
        return Abort("no") if b"secret" in chunk.raw else None


class HangsAtTheEnd(Policy):
    timeout = 5

    @hookimpl
    async def on_chunk_completed(self, chunk: Chunk) -> None:
        if b"secret" in chunk.raw:
            await anyio.sleep_forever()


@pytest.mark.parametrize("policy", [StopsAtTheEnd(), HangsAtTheEnd()])
async def test_what_was_to_leave_with_what_is_stopped_here_is_not_on_record_as_left(policy: Policy) -> None:
    script = Script().reasoning("hm").text("one ").text("secret").text(" two")
    clock = VirtualClock(autojump=True)
    for each in await run([HoldsText(), policy], script, streamed=[True], cuts="whole", clock=clock):
        (left,) = [r.details for r in each.records if r.type is EventType.RESPONSE_RELEASED]
        assert [text["text"] for text in left["choices"][0]["texts"] if text["text"]] == ["hm"]
        assert each.transcript.text.strip().startswith("⛔")


class Marks(Policy):
    """Puts its name in the place of a word, in whatever chunk that stands."""

    def __init__(self, word: str, name: str) -> None:
        self.name, self._word = name, word

    @hookimpl
    def on_chunk_completed(self, chunk: Chunk) -> Chunk | None:
        if chunk.data is None or self._word not in (text := json.dumps(chunk.data)):
            return None
        return chunk.replace(data=json.loads(text.replace(self._word, self.name)))


async def test_of_what_a_policy_made_illegal_that_one_is_named_and_nothing_is_on_record_as_left() -> None:
    """The event that no wire format has may pass as it came, and not as another policy makes it."""
    script = Script().unknown("a word").text("one more")
    formats = ["anthropic.messages", "openai.responses"]
    policies = [HoldsAll(), Marks("word", "first"), Marks("more", "second")]
    for each in await run(policies, script, streamed=[True], wire_formats=formats):
        assert (each.outcome.status.value, each.outcome.policy) == ("policy_error", "first")
        (left,) = [r.details for r in each.records if r.type is EventType.RESPONSE_RELEASED]
        assert not any(text["text"] for choice in left["choices"] for text in choice["texts"])


class HoldsAll(Policy):
    hold = "response"

    @hookimpl
    def on_response_completed(self, response: ResponseCompleted) -> None:
        """Holds everything."""
