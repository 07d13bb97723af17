"""A decision that cannot be recorded does not happen, whoever ends the answer, and the client is told in its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from luthien_guard import Policy, PolicyContext, hookimpl
from luthien_guard.clock import MonotonicClock
from luthien_guard.control_plane.local import LocalControlPlane
from luthien_guard.control_plane.service import GuardedStream, Release, StreamingContext
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.services import Services
from luthien_guard.errors import SinkError
from luthien_guard.events import ContentChunk
from luthien_guard.exchange import RequestMetadata
from luthien_guard.pipeline.asking import at_once, within
from luthien_guard.records import EventType, Form
from luthien_guard.testing import Script, render
from luthien_guard.wire.formats import FORMATS
from tests.engine.test_request import BODIES

pytestmark = pytest.mark.anyio

CHAT = "openai.chat"


class FullStore:
    """A record of changes that is owed, and never becomes durable."""

    def __init__(self, *_: Any) -> None:
        self.owes = False

    def __call__(self, type: EventType, /, *, policy: str | None = None, **details: Any) -> None:
        self.owes = self.owes or type is EventType.CHANGED

    def put(self, form: Form, policy: str | None, values: tuple[Any, ...]) -> None:
        self(form.type)

    def hide(self, request: Mapping[str, Any]) -> None: ...

    def redacted(self, text: str) -> str:
        return text

    async def settle(self) -> None:
        if self.owes:
            self.owes = False
            raise SinkError("the disk is full")


class Upper(Policy):
    """Changes the first delta, and waits for ever on one that says so."""

    def __init__(self, reached: Mapping[str, anyio.Event]) -> None:
        self._reached = (reached["wait"],)

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        if chunk.text == "wait":
            self._reached[0].set()
            await anyio.sleep_forever()
        return chunk.replace(text=chunk.text.upper())


class Notes(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> ContentChunk | None:
        if "seen" in chunk.text:
            ctx.record("seen")
        return chunk.replace(text="other") if "changed" in chunk.text else None


class SlowStore(FullStore):
    """It owes more, and takes everything in the end."""

    def __call__(self, type: EventType, /, *, policy: str | None = None, **details: Any) -> None:
        self.owes = self.owes or type is EventType.POLICY_RECORD

    async def settle(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.owes = False


async def opened(
    reached: Mapping[str, anyio.Event], policy: Policy | None = None, store: type[FullStore] = FullStore
) -> GuardedStream:
    plan, services = (
        Plan([policy or Upper(reached)]),
        Services(anyio.current_time, partial(within, MonotonicClock()), at_once),
    )
    plane = LocalControlPlane(lambda _: plan, services, FORMATS, store)
    await plane.decide_request(RequestMetadata("c", 0.0), CHAT, BODIES[CHAT])
    return await plane.open_stream(StreamingContext("c", CHAT, 200, True))


def body(*texts: str) -> bytes:
    script = Script()
    for text in texts:
        script = script.text(text)
    return render(script, CHAT, stream=True).body


async def test_before_anything_has_left_it_is_an_answer() -> None:
    stream = await opened({"wait": anyio.Event()})
    release = await stream.feed(body("marker"))
    assert release.answer is not None
    assert release.answer.status == 503
    assert not release.data


async def test_after_a_sign_of_life_it_is_an_error_in_the_stream() -> None:
    stream = await opened({"wait": anyio.Event()})
    assert stream.keepalive()
    release = await stream.feed(body("marker"))
    assert release.answer is None
    assert b"not_recorded" in release.data
    assert b"MARKER" not in release.data


@pytest.mark.parametrize("alive", [False, True])
async def test_what_was_decided_before_a_hook_hung_is_not_sent_without_its_record(alive: bool) -> None:
    reached = {"wait": anyio.Event()}
    stream = await opened(reached)
    if alive:
        assert stream.keepalive()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.feed, body("marker", "wait", "more"))
        await reached["wait"].wait()
        tasks.cancel_scope.cancel()
    release = await stream.fail(504, "total_timeout", "late")
    assert release.done
    assert b"MARKER" not in release.data
    assert (release.answer is None) == alive
    assert (release.answer.body if release.answer is not None else release.data).count(b"not_recorded") == 1


def frame(text: str) -> bytes:
    return b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % text.encode()


async def flowing(stream: GuardedStream) -> None:
    for number in range(3):
        release = await stream.feed(frame(str(number)))
    assert release.alike == ("choices", 0, "delta", "content")
    assert stream.feed_text("3") == "3"


async def test_nor_is_a_text_that_was_fed_alone() -> None:
    stream = await opened({"wait": anyio.Event()})
    await flowing(stream)
    said = stream.feed_text("marker")
    assert not isinstance(said, str)
    release = await said
    assert isinstance(release, Release)
    assert release.done
    assert b"not_recorded" in release.data
    assert b"MARKER" not in release.data


@pytest.mark.parametrize(("text", "item"), [("seen", ("seen", 4)), ("seen and changed", ("other", None))])
async def test_a_text_that_was_fed_alone_waits_for_its_record(
    text: str, item: tuple[str, int | None]
) -> None:
    stream = await opened({}, Notes(), SlowStore)
    await flowing(stream)
    said = stream.feed_text(text)
    assert not isinstance(said, str)
    release = await said
    assert isinstance(release, Release)
    assert release.items == ((frame(item[0]), item[1]),)
    assert not release.done
