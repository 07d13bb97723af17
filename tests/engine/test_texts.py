"""Of a chunk that is like the one before its text is enough: the same is decided, and the same leaves."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio.lowlevel
import pytest

from luthien_guard import ContentChunk, Guard, Policy, PolicyContext, hookimpl
from luthien_guard.control_plane.service import GuardedStream, Release, StreamingContext
from luthien_guard.events import Chunk
from luthien_guard.exchange import RequestMetadata, new_call_id
from luthien_guard.limits import Limits
from luthien_guard.wire.alike import pattern_of
from luthien_guard.wire.splice import replace_string
from tests.engine.test_flow import (
    CHAT_END,
    ODD,
    SETS,
    WORDS,
    Blocks,
    Drops,
    Fails,
    Reads,
    Shouts,
    chat,
    left,
)

pytestmark = pytest.mark.anyio


class Texts:
    """Feeds frames one by one; of those that are like the one before, where the guard says that it may be so, the text."""

    def __init__(self, stream: GuardedStream) -> None:
        self.stream = stream
        self.fed: list[bytes] = []
        self.alike: tuple[str | int, ...] | None = None
        self.texts: dict[int | None, bytes] = {}  # frames of which the text was fed, by their number

    async def feed(self, frame: bytes) -> Release:
        self.fed.append(frame)
        text = self._text(frame)
        if text is None:
            return self._taken(await self.stream.feed(frame))
        self.texts[len(self.fed) - 1] = frame
        said = self.stream.feed_text(text)
        said = said if isinstance(said, str) else await said
        if not isinstance(said, str):
            return self._taken(said)
        return Release(((frame if said == text else replace_string(frame, b"content", said) or b"", None),))

    def _taken(self, release: Release) -> Release:
        self.alike = release.alike
        came = [(self.texts.get(at, raw), None) for raw, at in release.items]
        return Release(tuple(came), release.pending, done=release.done, answer=release.answer)

    def _text(self, frame: bytes) -> str | None:
        if self.alike is None:
            return None
        patterns = [pattern_of(Chunk("data", each, _data(each)), self.alike) for each in self.fed[-2:]]
        text = patterns[0] and patterns[1] and patterns[0].text_of(frame)
        return text if text and text.isprintable() else None


def _data(frame: bytes) -> Any:
    try:
        return json.loads(frame[6:])
    except ValueError:
        return {}


class Waits(Policy):
    """Now and then for somebody."""

    channels = frozenset({"content"})

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        if "o" in chunk.text:
            await anyio.lowlevel.checkpoint()
        return chunk.replace(text=chunk.text.upper()) if "q" in chunk.text or "f" in chunk.text else None


class Notes(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> None:
        ctx.record("seen", text=chunk.text)


DIRECT: list[list[type[Policy]]] = [
    [Reads],
    [Shouts],
    [Drops],
    [Blocks],
    [Fails],
    [Waits],
    [Notes, Shouts],
    [Waits, Drops],
]
OTHERS = [kinds for kinds in SETS if kinds not in DIRECT]


def name(kinds: list[type[Policy]]) -> str:
    return "+".join(kind.__name__ for kind in kinds)


@pytest.mark.parametrize("kinds", [*DIRECT, *OTHERS], ids=name)
@pytest.mark.parametrize("odd", ODD)
async def test_a_text_is_enough(kinds: list[type[Policy]], odd: str) -> None:
    words = [chat(content=word) for word in WORDS]
    whole = [frame for frame in ODD[odd] if re.fullmatch(rb"data: [^\n]*\n\n", frame)]
    frames = [*words, *whole, *words, *CHAT_END]
    wanted = await left([kind() for kind in kinds], "openai.chat", frames)
    told: list[Texts] = []

    def feeds(stream: GuardedStream) -> Any:
        told.append(Texts(stream))
        return told[0].feed

    found = await left([kind() for kind in kinds], "openai.chat", frames, feeds)
    assert without_filler(found) == without_filler(wanted)
    assert (len(told[0].texts) > 1) == (kinds in DIRECT)


def without_filler(found: tuple[bytes, Any]) -> tuple[bytes, Any]:
    """Those characters are of nobody, and only the frames that came have any."""
    return re.sub(rb'"obfuscation": "x*"', b"", found[0]), found[1]


async def begun(*policies: Any, **options: Any) -> GuardedStream:
    """A stream of which the texts may be fed alone."""
    guard, call_id = Guard(list(policies), **options), new_call_id()
    await guard.plane.decide_request(RequestMetadata(call_id, 0.0), "openai.chat", b'{"stream":true}')
    stream = await guard.plane.open_stream(StreamingContext(call_id, "openai.chat", 200, True))
    for number in range(2):
        release = await stream.feed(chat(content=f"{number}"))
    assert release.alike == ("choices", 0, "delta", "content")
    return stream


async def fed(stream: GuardedStream, text: str) -> str | Release:
    said = stream.feed_text(text)
    return said if isinstance(said, str) else await said


@pytest.mark.parametrize("text", ["01", "犬" * 100])
async def test_a_text_counts_as_much_as_its_frame(text: str) -> None:
    size = len(chat(content="01").replace(b"x", b"")) - 2 + len(text.encode())
    stream = await begun(Reads(), limits=Limits(max_stream_bytes=10 * size))
    found = [await fed(stream, text)]
    while isinstance(found[-1], str):
        found.append(await fed(stream, text))
    assert 8 <= len(found) <= 10
    assert isinstance(found[-1], Release)
    assert found[-1].done


async def test_a_hook_that_hangs_on_a_text_ends_the_answer_and_nothing_of_it_leaves() -> None:
    class Hangs(Policy):
        @hookimpl
        async def on_content_chunk(self, chunk: ContentChunk) -> None:
            if chunk.text == "marker":
                await anyio.sleep_forever()

    stream = await begun(Hangs())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fed, stream, "marker")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    release = await stream.fail(504, "policy_timeout", "late")
    assert release.done
    assert b"marker" not in release.data
    assert release.data
