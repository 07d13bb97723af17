"""A frame that is like the one before is decided and leaves as it does for who reads every frame anew."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, ContentCompleted, Guard, Policy, hookimpl
from luthien_guard.control_plane.service import GuardedStream, Release, StreamingContext
from luthien_guard.events import Chunk
from luthien_guard.exchange import RequestMetadata, new_call_id
from luthien_guard.records import EventType

pytestmark = pytest.mark.anyio


def chat(**delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    data = {"id": "c1", "created": 1, "model": "m", "choices": [choice], "obfuscation": "x" * len(str(delta))}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def messages(**delta: Any) -> bytes:
    kind = {"content": "text_delta"}.get(next(iter(delta)), "thinking_delta")
    field = kind.partition("_")[0]
    text = next(iter(delta.values()))
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: text}}
    return b"event: content_block_delta\ndata: " + json.dumps(data).encode() + b"\n\n"


def opening() -> list[bytes]:
    start = {
        "type": "message_start",
        "message": {"id": "m", "type": "message", "role": "assistant", "content": []},
    }
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return [
        b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode())
        for each in (start, block)
    ]  # type: ignore[attr-defined]


CHAT_END = [b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"]
MESSAGES_END = [
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
WORDS = [
    "The",
    " quick",
    " brown",
    " secret",
    " fox",
    " jumps",
    " ov",
    "er",
    ' "the"',
    "\n",
    " lazy",
    " dóg",
    " 犬",
    ".",
]

ONE = chat(content=" word")
ODD = {
    "nothing": [],
    "an escape": [ONE.replace(b" word", b"\\u0073ecret")],
    "half a surrogate pair": [ONE.replace(b" word", b"\\ud800")],
    "another line end": [ONE.replace(b" word", b" a\xe2\x80\xa8b")],
    "bytes that are not UTF-8": [ONE.replace(b" word", b"\xff")],
    "a key twice": [ONE.replace(b'"content": " word"', b'"content": "a", "content": "b"')],
    "a member more": [ONE.replace(b'" word"', b'"a", "refusal": "no secret"')],
    "no number": [ONE.replace(b'"index": 0', b'"index": NaN')],
    "filler with something to say": [ONE.replace(b'"obfuscation": "', b'"obfuscation": "a secret ')],
    "an unfinished frame": [ONE[:-1], b"\n"],
    "the same in two": [ONE[:40], ONE[40:]],
    "a frame that begins inside another": [b"data: ", ONE],
    "two frames": [ONE + ONE],
    "a comment": [b": secret\n\n"],
    "no text": [chat(content="")],
    "another field": [chat(refusal=" no"), chat(refusal=" never")],
    "a call": [chat(tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}])],
    "another choice": [ONE.replace(b'"index": 0', b'"index": 1'), ONE.replace(b'"index": 0', b'"index": 1')],
    "[DONE]": [b"data: [DONE]\n\n"],
    "finished": CHAT_END[:1],
}


class Reads(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...


class Shouts(Policy):
    channels = frozenset({"content"})

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


class Drops(Policy):
    """Leaves some chunks without any text."""

    channels = frozenset({"content"})

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text="" if "o" in chunk.text else chunk.text)


class Redacts(Policy):
    lookahead = 12

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        at = chunk.text.find("secret")
        return chunk.edit((at, at + 6, "[gone]")) if at >= 0 and chunk.writable else None


class Blocks(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("secret") if "secret" in chunk.text else None


class Fails(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Any:
        return 7 if "over" in chunk.text or "er" in chunk.text else None


class Whole(Policy):
    channels = frozenset({"content"})

    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> str:
        return content.text.replace("fox", "cat")


class Watches(Policy):
    """Changes some chunks whole, drops some, adds some."""

    @hookimpl
    def on_chunk_started(self, chunk: Chunk) -> Any:
        data = chunk.data
        text = json.dumps(data)
        if "quick" in text:
            return chunk.replace(data={**data, "seen": chunk.event})
        if "lazy" in text:
            return [chunk, chunk]
        return [] if "jumps" in text else None


ENDS = (EventType.RESPONSE_RECEIVED, EventType.RESPONSE_RELEASED, EventType.CHANGED, EventType.USAGE)


Feeds = Callable[[GuardedStream], Callable[[bytes], Awaitable[Release]]]


async def left(
    policies: Iterable[Policy],
    wire_format: str,
    pieces: Iterable[bytes],
    feeds: Feeds = lambda stream: stream.feed,
) -> tuple[bytes, Any]:
    guard, call_id = Guard(list(policies)), new_call_id()
    await guard.plane.decide_request(
        RequestMetadata(call_id, 0.0), wire_format, b'{"model":"m","stream":true}'
    )
    stream = await guard.plane.open_stream(StreamingContext(call_id, wire_format, 200, True))
    feed = feeds(stream)
    found: list[Release] = []
    for piece in pieces:
        found.append(await feed(piece))
        if found[-1].done:
            break
    else:
        found.append(await stream.feed(b"", last=True))
    outcome = await guard.plane.close(call_id)
    said = b"".join(release.data for release in found).replace(call_id.encode(), b"ID")
    answers = [release.answer for release in found if release.answer]
    # what is illegal is found when it is written: by then more or less of what came may have been read
    late = "illegal output" in str(outcome.reason)
    whole = [each for each in guard.records_of(call_id) if each.type in ENDS and not late]
    recorded = [(each.type, repr(each.details).replace(call_id, "ID")) for each in whole]
    return re.sub(rb'"created":\d{9,}', b"", said), (outcome, answers, recorded)


def halves(frames: Iterable[bytes]) -> list[bytes]:
    return [half for frame in frames for half in (frame[: len(frame) // 2], frame[len(frame) // 2 :])]


def batches(frames: Iterable[bytes]) -> list[bytes]:
    """Pieces of 1000 bytes: some frames whole, some cut."""
    data = b"".join(frames)
    return [data[at : at + 1000] for at in range(0, len(data), 1000)]


def between(make: Callable[..., bytes], odd: list[bytes]) -> list[bytes]:
    words = [make(content=word) for word in WORDS]
    return [*words, *odd, *words]


SETS: list[list[type[Policy]]] = [
    [Reads],
    [Shouts],
    [Drops],
    [Redacts],
    [Blocks],
    [Fails],
    [Whole],
    [Redacts, Shouts, Reads],
    [Drops, Redacts],
    [Watches],
    [Watches, Shouts, Redacts],
]


@pytest.mark.parametrize("kinds", SETS, ids=lambda kinds: "+".join(kind.__name__ for kind in kinds))
@pytest.mark.parametrize("odd", ODD)
async def test_chat(kinds: list[type[Policy]], odd: str) -> None:
    frames = [*between(chat, ODD[odd]), *CHAT_END]
    flowing = await left([kind() for kind in kinds], "openai.chat", frames)
    assert flowing == await left([kind() for kind in kinds], "openai.chat", halves(frames))
    assert flowing == await left([kind() for kind in kinds], "openai.chat", batches(frames))
    after_some = [*frames[:3], b"".join(frames[3:])]
    assert flowing == await left([kind() for kind in kinds], "openai.chat", after_some)
    assert flowing == await left([kind() for kind in kinds], "openai.chat", [b"".join(frames)])


def in_message(word: str) -> bytes:
    return chat(content=word).replace(b'"delta"', b'"message"')


#: Frames that are alike from the first one on, in which the text begins.
BEGINNINGS: dict[str, Callable[[str], bytes]] = {
    "content": lambda word: chat(content=word),
    "a role": lambda word: chat(role="assistant", content=word),
    "another role": lambda word: chat(role="secret", content=word),
    "a refusal": lambda word: chat(refusal=word),
    "reasoning": lambda word: chat(reasoning_content=word),
    "reasoning twice": lambda word: chat(reasoning_content=word, reasoning=word),
    "content behind reasoning": lambda word: chat(reasoning_content="why", content=word),
    "a part": lambda word: chat(content=[{"type": "text", "text": word}]),
    "a transcript": lambda word: chat(audio={"id": "a", "transcript": word}),
    "a message": in_message,
    "a name of no kind": lambda word: chat(content=word).replace(b'"id": "c1"', b'"id": "no name"'),
    "another object": lambda word: chat(content=word).replace(b'"id"', b'"object": "x", "id"'),
    "usage": lambda word: chat(content=word).replace(b'"id"', b'"usage": {"total_tokens": 1}, "id"'),
    "a choice far behind": lambda word: chat(content=word).replace(b'"index": 0', b'"index": 500'),
}


@pytest.mark.parametrize(
    "kinds", SETS[:4] + SETS[-1:], ids=lambda kinds: "+".join(kind.__name__ for kind in kinds)
)
@pytest.mark.parametrize(
    "words", [WORDS, ["The", "The", " quick", " fox", "The quick fox"]], ids=["words", "repeated"]
)
@pytest.mark.parametrize("make", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_the_frame_in_which_a_text_begins(
    kinds: list[type[Policy]], words: list[str], make: Callable[[str], bytes]
) -> None:
    frames = [*map(make, words), *CHAT_END]
    flowing = await left([kind() for kind in kinds], "openai.chat", frames)
    assert flowing == await left([kind() for kind in kinds], "openai.chat", halves(frames))
    assert flowing == await left([kind() for kind in kinds], "openai.chat", [b"".join(frames)])


async def test_a_flow_begins_with_its_text() -> None:
    guard, call_id = Guard([Reads()]), new_call_id()
    await guard.plane.decide_request(
        RequestMetadata(call_id, 0.0), "openai.chat", b'{"model":"m","stream":true}'
    )
    stream: Any = await guard.plane.open_stream(StreamingContext(call_id, "openai.chat", 200, True))
    await stream.feed(chat(role="assistant", content=WORDS[0]))
    assert stream._state.flow is not None
    await guard.plane.close(call_id)


@pytest.mark.parametrize("kinds", SETS, ids=lambda kinds: "+".join(kind.__name__ for kind in kinds))
@pytest.mark.parametrize("odd", ["nothing", "thinking in a text", "stopped", "an escape"])
async def test_messages(kinds: list[type[Policy]], odd: str) -> None:
    odds = {
        "nothing": [],
        "thinking in a text": [messages(reasoning="why")],
        "stopped": MESSAGES_END[:1],
        "an escape": [messages(content="x").replace(b'"x"', b'"\\u0073ecret"')],
    }
    frames = [*opening(), *between(messages, odds[odd]), *MESSAGES_END]
    flowing = await left([kind() for kind in kinds], "anthropic.messages", frames)
    assert flowing == await left([kind() for kind in kinds], "anthropic.messages", halves(frames))


async def test_a_stream_is_a_flow() -> None:
    guard, call_id = Guard([Reads()]), new_call_id()
    await guard.plane.decide_request(
        RequestMetadata(call_id, 0.0), "openai.chat", b'{"model":"m","stream":true}'
    )
    stream: Any = await guard.plane.open_stream(StreamingContext(call_id, "openai.chat", 200, True))
    for word in WORDS[:3]:
        await stream.feed(chat(content=word))
    flow = stream._state.flow
    await stream.feed(chat(content=WORDS[3]))
    assert flow is not None and stream._state.flow is flow
    await guard.plane.close(call_id)


async def test_what_nobody_changed_leaves_as_it_came() -> None:
    frames = [*between(chat, []), *CHAT_END]
    assert (await left([Reads()], "openai.chat", frames))[0] == b"".join(frames)


async def test_a_text_that_is_over_is_no_flow() -> None:
    """Deltas behind the stop of their block are a text of their own, which the policies see."""
    frames = [
        *opening(),
        messages(content="a"),
        messages(content="b") + MESSAGES_END[0],
        messages(content=" secret"),
    ]
    said, (outcome, *_) = await left([Blocks()], "anthropic.messages", frames)
    assert b"secret" not in said and outcome.status.value == "blocked"
