"""Chunks that policies put in the place of others: everybody reads them, and they are what they say."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard.events import Chunk, ContentChunk
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.policy import Abort, Block, Policy, hookimpl
from luthien_guard.records import EventType
from luthien_guard.testing import Script, run
from tests.cases.chat_wire import DONE, chunk, through
from tests.engine.drive import Bench

pytestmark = pytest.mark.anyio

EVIL = b'data: {"choices":[{"index":0,"delta":{"content":"EVIL"}}]}\n\n'


class Makes(Policy):
    def __init__(self, does: Any, hook: str) -> None:
        self._does = does
        self._hook = hook

    def listens(self, hook: str) -> bool:
        return hook == self._hook

    @hookimpl
    def on_chunk_started(self, chunk: Chunk) -> Any:
        return self._does(chunk) if chunk.kind in ("data", "body") else None

    @hookimpl
    def on_chunk_completed(self, chunk: Chunk) -> Any:
        return self._does(chunk) if chunk.kind in ("data", "body") else None


class Scans(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("evil") if "EVIL" in chunk.text else None


NONSENSE = [
    lambda chunk: chunk.replace(raw=b"garbage"),
    lambda chunk: chunk.replace(raw=None),
    lambda chunk: chunk.replace(raw="text"),
    lambda chunk: chunk.replace(raw=EVIL + EVIL),
    lambda chunk: Chunk("comment", EVIL),
    lambda chunk: chunk.replace(kind="nonsense"),
    lambda chunk: chunk.replace(data={**chunk.data, "x": 1}, event="a\n\ndata: EVIL"),
    lambda chunk: chunk.replace(data={**chunk.data, "x": 1}, event=5),
    lambda chunk: chunk.replace(data={"x": object()}),
    lambda chunk: chunk.replace(data={"x": float("nan")}),
    lambda chunk: chunk.replace(data={"x": "\ud800"}),
    lambda chunk: chunk.data.update(x=chunk.data),
    lambda chunk: [chunk, 7],
    lambda chunk: 7,
]


@pytest.mark.parametrize("does", NONSENSE)
@pytest.mark.parametrize("hook", ["on_chunk_started", "on_chunk_completed"])
async def test_what_cannot_be_written_is_the_failure_of_the_policy(does: Any, hook: str) -> None:
    sent = await through([Makes(does, hook)], chunk({"content": "fine"}) + chunk({}, finish="stop") + DONE)
    assert b"EVIL" not in sent.body
    assert b"garbage" not in sent.body
    assert (sent.outcome.status, sent.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "makes")


async def test_bytes_that_a_policy_gives_are_read_by_those_after_it() -> None:
    makes = Makes(lambda chunk: chunk.replace(raw=EVIL), "on_chunk_started")
    sent = await through([makes, Scans()], chunk({"content": "fine"}) + chunk({}, finish="stop") + DONE)
    assert b"EVIL" not in sent.body
    assert sent.outcome.policy == "scans"


@pytest.mark.parametrize("hook", ["on_chunk_started", "on_chunk_completed"])
async def test_an_equal_chunk_leaves_as_it_came(hook: str) -> None:
    body = (
        b'data:  {"choices" : [{"index":0,"delta":{"content":"so"}}]}\n\n' + chunk({}, finish="stop") + DONE
    )
    assert (await through([Makes(lambda chunk: chunk.replace(), hook)], body)).body == body


def cleaned(chunk: Chunk) -> Chunk:
    delta = chunk.data["choices"][0]["delta"]
    if "EVIL" in delta.get("content", ""):
        delta["content"] = "good"
    return chunk


IN_PLACE = {
    "nothing returned": lambda chunk: (cleaned(chunk), None)[1],
    "returned": cleaned,
    "in a list": lambda chunk: [cleaned(chunk)],
    "a copy returned": lambda chunk: cleaned(chunk).replace(),
    "its data returned": lambda chunk: chunk.replace(data=cleaned(chunk).data),
}
FRAMES = 4


@pytest.mark.parametrize("how", IN_PLACE)
@pytest.mark.parametrize("hook", ["on_chunk_started", "on_chunk_completed"])
async def test_data_that_is_changed_in_place_leaves_as_everybody_has_seen_it(how: str, hook: str) -> None:
    body = chunk({"content": "EVIL"}) * FRAMES + chunk({}, finish="stop") + DONE
    sent = await through([Makes(IN_PLACE[how], hook), Makes(lambda _: None, hook)], body)
    assert (sent.body.count(b"EVIL"), sent.body.count(b"good")) == (0, FRAMES)


@pytest.mark.parametrize("how", IN_PLACE)
async def test_a_shadow_that_changes_data_in_place_hides_nothing_from_others(how: str) -> None:
    body = chunk({"content": "EVIL"}) * FRAMES + chunk({}, finish="stop") + DONE
    shadow = {"use": Makes(IN_PLACE[how], "on_chunk_started"), "mode": "shadow"}
    sent = await through([shadow, Scans()], body)
    assert b"EVIL" not in sent.body
    assert sent.outcome.policy == "scans"
    assert (await through([shadow], body)).body == body


async def test_data_that_a_policy_keeps_and_changes_later_is_its_own() -> None:
    kept: list[Any] = []

    def keeps(chunk: Chunk) -> list[Chunk]:
        kept.append(chunk.data["choices"][0]["delta"])
        return [chunk, chunk]

    def changes(_: Chunk) -> None:
        for delta in kept:
            delta["content"] = "good"

    body = chunk({"content": "EVIL"}) * FRAMES + chunk({}, finish="stop") + DONE
    policies = [Makes(keeps, "on_chunk_started"), Makes(changes, "on_chunk_started"), Scans()]
    sent = await through(policies, body)
    assert b"EVIL" not in sent.body
    assert sent.outcome.policy == "scans"


@pytest.mark.parametrize("does", [lambda chunk: [], lambda chunk: [chunk, chunk]])
@pytest.mark.parametrize("hook", ["on_chunk_started", "on_chunk_completed"])
async def test_a_body_stays_one_body(does: Any, hook: str) -> None:
    for one in await run(Makes(does, hook), Script().text("marker"), streamed=[False], cuts="whole"):
        assert one.outcome is not None
        assert (one.outcome.status, one.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "makes")
        assert "marker" not in one.transcript.text


class Lets(Policy):
    def __init__(self, does: Any, name: str) -> None:
        self._does = does
        self.name = name

    @hookimpl
    def on_unknown_chunk(self) -> Any:
        return self._does()


@pytest.mark.parametrize("order", [0, 1])
async def test_every_policy_is_asked_about_what_nobody_could_read(order: int) -> None:
    policies = [Lets(lambda: True, "lenient"), Lets(lambda: Abort("no"), "strict")]
    found = await Bench(policies[::-1] if order else policies).run(raw=b"data: {MARKER\n\n")
    assert "MARKER" not in found.data.decode()
    assert found.outcome is not None
    assert (found.outcome.status, found.outcome.policy) == (OutcomeStatus.BLOCKED, "strict")


async def forgotten() -> None: ...


@pytest.mark.parametrize("nonsense", [False, 1, "x", ["x"], object()])
async def test_nonsense_about_it_is_no_leave(nonsense: Any) -> None:
    found = await Bench([Lets(lambda: nonsense, "lets")]).run(
        {"text": "so"}, raw=b'data: {"text":"a"}\n\ndata: {MARKER\n\n'
    )
    assert "MARKER" not in found.data.decode()
    assert found.recorded(EventType.POLICY_ERROR)
