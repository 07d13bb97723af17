"""Clients read the texts of a response as one: what a policy with look-ahead forbids is forbidden across their borders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Policy, hookimpl
from luthien_guard.exchange import OutcomeStatus
from tests.cases.chat_wire import Sent, through
from tests.official_sdks import reads
from tests.wire.responses_events import call, message, message_item, parsed, response, stream

pytestmark = pytest.mark.anyio
API = "openai.responses"
MARK = "Nightjar"
steps = pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])


class Forbids(Policy):
    lookahead = len(MARK)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("mark", "NO") if MARK in chunk.text else None


async def answered(*events: Any, output: list[Any], step: int = 0, policy: Policy | None = None) -> Sent:
    body = stream(response("created", []), *events, response("completed", output))
    return await through([policy or Forbids()], body, format=API, step=step)


def said(body: bytes) -> dict[str, str]:
    """All texts in one, as clients have them that print deltas, and those that go by the events of another type."""
    found: dict[str, str] = {}
    for event in parsed(body):
        kind = event["type"]
        text = ""
        if kind == "response.output_text.delta":
            text = event["delta"]
        elif kind == "response.output_text.done":
            text = event["text"]
        elif kind == "response.output_item.done" and event["item"]["type"] == "message":
            text = "".join(part["text"] for part in event["item"]["content"])
        found[kind] = found.get(kind, "") + text
    ends = [each for each in reads(API, body, stream=True) if each.type == "response.completed"]
    return {**found, "output_text": ends[-1].response.output_text}


def part(at: int, text: str) -> list[dict[str, Any]]:
    """A part of the message 0."""
    place = {"item_id": "msg_0", "output_index": 0, "content_index": at}
    begun = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    return [
        {"type": "response.content_part.added", **place, "part": begun},
        {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**begun, "text": text}},
    ]


PARTS = {
    **message_item(0, "Night"),
    "content": [{**message_item(0, each)["content"][0]} for each in ("Night", "jar")],
}
ITEMS = [message_item(0, "Night"), message_item(1, "jar")]
TOLD = {
    "items": ([*message(0, "Ni", "ght"), *message(1, "jar")], ITEMS),
    "around a call": (
        [*message(0, "Night"), *call(1, "{}"), *message(2, "jar")],
        [ITEMS[0], message_item(2, "jar")],
    ),
    "parts": (
        [
            {"type": "response.output_item.added", "output_index": 0, "item": {**PARTS, "content": []}},
            *part(0, "Night"),
            *part(1, "jar"),
            {"type": "response.output_item.done", "output_index": 0, "item": PARTS},
        ],
        [PARTS],
    ),
    "in another order at the end": ([*message(0, "jar"), *message(1, "Night")], [*reversed([message_item(0, "jar"), message_item(1, "Night")])]),
    "without what stands between, at the end": (
        [*message(0, "Night"), *message(1, " and on "), *message(2, "jar")],
        [ITEMS[0], message_item(2, "jar")],
    ),
    "without what stands between, when each is done": (
        [*message(0, "Night"), *message(1, " and on ")[:3], *message(2, "jar")],
        [ITEMS[0], message_item(1, " and on "), message_item(2, "jar")],
    ),
    "with something else when that is done": (
        [*message(0, "Night")[:3], message(0, " and on ")[-1], *message(1, "jar")],
        ITEMS,
    ),
}  # fmt: skip


@steps
@pytest.mark.parametrize("told", TOLD)
async def test_a_word_that_is_cut_over_texts_is_seen(told: str, step: int) -> None:
    events, output = TOLD[told]
    sent = await answered(*events, output=output, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert all(MARK not in text for text in said(sent.body).values())


async def test_a_word_that_is_cut_over_texts_of_a_body_is_seen() -> None:
    for output in (ITEMS, [PARTS]):
        body = json.dumps(response("completed", output)["response"]).encode()
        sent = await through([Forbids()], body, format=API, stream=False)
        assert sent.outcome.status is OutcomeStatus.BLOCKED


async def test_texts_that_say_nothing_forbidden_leave_as_they_came() -> None:
    for events, output in TOLD.values():
        events = json.loads(json.dumps(events).replace("jar", "fall"))
        output = json.loads(json.dumps(output).replace("jar", "fall"))
        body = stream(response("created", []), *events, response("completed", output))
        assert (await through([Forbids()], body, format=API)).body == body


@steps
async def test_texts_that_are_said_at_the_same_time_are_read_in_one_order(step: int) -> None:
    """By the items this would say "xNight", "jar"; by the events "x", "jar", "Night"."""
    first, second = message(0, "x", "Night"), message(1, "jar")
    events = [*first[:3], *second[:3], *first[3:], *second[3:]]
    sent = await answered(*events, output=[message_item(0, "xNight"), message_item(1, "jar")], step=step)
    assert all(MARK not in text for text in said(sent.body).values())


class Redacts(Policy):
    lookahead = len(MARK)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        at = chunk.text.find(MARK)
        return None if at < 0 else chunk.edit((at, at + len(MARK), "[it]"))


@steps
async def test_repeats_of_a_word_that_is_cut_say_what_left(step: int) -> None:
    events, output = TOLD["items"]
    sent = await answered(*events, output=output, step=step, policy=Redacts())
    assert {text for text in said(sent.body).values() if text} == {"Night[it]"}
