"""`anthropic_messages`: dicts and bytes of SSE."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from luthien_guard import Guard
from luthien_guard.client import PolicyViolation
from luthien_guard.client.dialects import MESSAGES as DIALECT
from luthien_guard.client.functions import guarded
from tests.client.calls import MESSAGES, BlocksRequests, BlocksText, Upper, counted
from tests.client.provider import Provider, message_body, message_events

pytestmark = pytest.mark.anyio


def _bytes(*parts: str) -> list[bytes]:
    return [
        f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in message_events(*parts)
    ]


class Replay(type(DIALECT)):  # type: ignore[misc]
    """Streams the bytes as litellm does (its own function needs packages that it does not declare), cut anywhere."""

    def __init__(self, *parts: str, cut: int | None = None) -> None:
        self.raw = b"".join(_bytes(*parts))
        self.pieces = _bytes(*parts) if cut is None else _cut(self.raw, cut)

    async def call(self, given: dict[str, Any]) -> Any:
        return self._replay()

    async def _replay(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


def _cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


async def _stream(guard: Guard, dialect: Replay, **kwargs: Any) -> bytes:
    given = {
        "model": "anthropic/claude-sonnet-4-5",
        "messages": MESSAGES,
        "max_tokens": 9,
        "stream": True,
        **kwargs,
    }
    found = b""
    async for piece in await guarded(guard, dialect, (), given):
        assert isinstance(piece, bytes)
        found += piece
    return found


async def _ask(guard: Guard, provider: Provider, **kwargs: Any) -> Any:
    return await guard.anthropic_messages(
        9, MESSAGES, "anthropic/claude-sonnet-4-5", api_base=provider.url, api_key="k", **kwargs
    )


async def test_whole_answers_of_the_real_function(provider: Provider) -> None:
    provider.answers = [message_body("one two")]
    for policies in ([], ["noop"]):
        assert (await _ask(Guard(policies), provider))["content"] == [{"type": "text", "text": "one two"}]
    changed = await _ask(Guard([Upper()]), provider)
    assert changed["content"] == [{"type": "text", "text": "ONE TWO"}]
    assert changed["usage"]["output_tokens"] == 4
    assert provider.bodies[-1]["max_tokens"] == 9


async def test_a_block_of_a_whole_answer(provider: Provider) -> None:
    provider.answers = [message_body("The SECRET")]
    for policy in (BlocksText(), BlocksRequests()):
        answer = await _ask(Guard([policy]), provider)
        assert answer["stop_reason"] == "end_turn"
        assert "SECRET" not in json.dumps(answer)
        with pytest.raises(PolicyViolation):
            await _ask(Guard([policy]), provider, on_block="raise")


@pytest.mark.parametrize("cut", [None, 1, 7, 64])
async def test_an_unchanged_stream_is_the_same_bytes(cut: int | None) -> None:
    dialect = Replay("one ", "two", cut=cut)
    for policies in ([], ["noop"], [BlocksText()]):
        assert await _stream(Guard(policies), dialect) == dialect.raw


@pytest.mark.parametrize("cut", [None, 1, 7, 64])
async def test_a_changed_stream(cut: int | None) -> None:
    found = await _stream(Guard([Upper()]), Replay("one ", "two", cut=cut))
    assert found == b"".join(_bytes("ONE ", "TWO"))


@pytest.mark.parametrize("policy", [BlocksText(), BlocksRequests()])
async def test_a_blocked_stream_ends_well_or_raises(policy: Any) -> None:
    guard, steps = counted(policy)
    found = await _stream(guard, Replay("The ", "SECRET"))
    assert b"SECRET" not in found
    assert found.count(b"event: message_stop") == 1
    assert b'"end_turn"' in found
    with pytest.raises(PolicyViolation):
        await _stream(guard, Replay("The ", "SECRET"), on_block="raise")
    assert len(steps.closed) == 2
