"""Clients read the texts of a response as one: what a policy with look-ahead forbids is forbidden across their borders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Policy, ToolCall, hookimpl
from luthien_guard.exchange import OutcomeStatus
from tests.cases.chat_wire import Sent, through
from tests.official_sdks import reads
from tests.wire.joined import MARK, Forbids, steps
from tests.wire.responses_events import call, message, message_item, parsed, response, stream

pytestmark = pytest.mark.anyio
API = "openai.responses"


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


# -- what a text says in its start -------------------------------------------------------------------------------------


def begun(n: int, start: str, where: str, *deltas: str) -> list[dict[str, Any]]:
    """The message `n`, which says `start` where it, or its part, is announced, and then the deltas."""
    item, part, *_ = message(n)
    said = message(n, start, *deltas)[3:]
    if where == "part":
        return [item, {**part, "part": {**part["part"], "text": start}}, *said]
    return [{**item, "item": {**item["item"], "content": [{**part["part"], "text": start}]}}, *said]


def printed(body: bytes, kind: str = "response.output_text.delta") -> str:
    return "".join(event["delta"] for event in parsed(body) if event["type"] == kind)


def kept(body: bytes) -> dict[int, list[str]]:
    """The parts of each item, as clients have them that append what is announced, and to that the deltas."""
    found: dict[int, list[str]] = {}
    for event in parsed(body):
        if event["type"] == "response.output_item.added":
            found[event["output_index"]] = [each["text"] for each in event["item"]["content"]]
        elif event["type"] == "response.content_part.added":
            found[event["output_index"]].append(event["part"]["text"])
        elif event["type"] == "response.output_text.delta":
            found[event["output_index"]][event["content_index"]] += event["delta"]
    return found


starts = pytest.mark.parametrize("where", ["part", "item"])


@steps
@starts
async def test_what_a_text_says_in_its_start_is_read_by_those_that_print_deltas(
    where: str, step: int
) -> None:
    """They skip the "x", and would have "Nightjar"."""
    events = [*message(0, "Night"), *begun(1, "x", where, "jar")]
    sent = await answered(*events, output=[message_item(0, "Night"), message_item(1, "xjar")], step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert printed(sent.body) == "Nightxjar"
    assert kept(sent.body)[1][0] == "xjar"
    numbers = [event["sequence_number"] for event in parsed(sent.body)]
    assert numbers == list(range(len(numbers)))


@steps
@starts
async def test_a_word_of_which_a_start_says_a_part_is_seen(where: str, step: int) -> None:
    events = [*message(0, "Ni"), *begun(1, "ght", where), *message(2, "jar")]
    output = [message_item(at, each) for at, each in enumerate(["Ni", "ght", "jar"])]
    sent = await answered(*events, output=output, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert MARK not in printed(sent.body)


@steps
async def test_what_a_policy_changes_in_a_start_leaves_as_a_delta(step: int) -> None:
    events = begun(0, f"the {MARK} ", "part", "sings")
    sent = await answered(*events, output=[message_item(0, f"the {MARK} sings")], step=step, policy=Redacts())
    assert printed(sent.body) == "the [it] sings"
    assert set(said(sent.body).values()) - {""} == {"the [it] sings"}


@steps
async def test_what_a_summary_says_in_its_start_leaves_as_a_delta(step: int) -> None:
    def events(n: int, start: str, text: str) -> list[dict[str, Any]]:
        place = {"item_id": f"rs_{n}", "output_index": n}
        item = {"id": f"rs_{n}", "type": "reasoning", "summary": []}
        prefix, at = "response.reasoning_summary", {**place, "summary_index": 0}
        return [
            {"type": "response.output_item.added", "output_index": n, "item": item},
            {"type": f"{prefix}_part.added", **at, "part": {"type": "summary_text", "text": start}},
            {"type": f"{prefix}_text.delta", **at, "delta": text},
        ]

    sent = await answered(*events(0, "", "Night"), *events(1, "x", "jar"), output=[], step=step)
    assert printed(sent.body, "response.reasoning_summary_text.delta") == "Nightxjar"


@steps
async def test_deltas_do_not_go_on_from_a_text_that_was_said_as_a_whole(step: int) -> None:
    """Clients that print deltas would read "Nightjar", by the items it is "Night" and "xjar"."""
    item, part, delta, *rest = message(1, "jar")
    events = [*message(0, "Night"), item, part, {**rest[0], "text": "x"}, delta]
    sent = await answered(*events, output=[ITEMS[0], message_item(1, "xjar")], step=step)
    assert MARK not in printed(sent.body)


def _open(at: int, text: str) -> list[dict[str, Any]]:
    """A message that says something and does not end."""
    return message(at, text)[:3]


@steps
@pytest.mark.parametrize(
    "events",
    [
        [*_open(1, "jar"), *message(0, "Night"), *_open(2, MARK)],
        [*message(1, "jar"), *message(0, "Night"), *_open(2, MARK)],
        [*_open(0, "jar"), *message(1, "Night"), *_open(2, MARK)],
    ],
    ids=["the second first", "both are over", "one that ends last"],
)
async def test_what_we_repeat_of_a_blocked_answer_is_in_the_order_in_which_it_was_judged(
    events: list[Any], step: int
) -> None:
    sent = await answered(*events, output=[], step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert all(MARK not in each for each in said(sent.body).values())
    assert said(sent.body)["output_text"].endswith("NO")


def _blocked(at: int, *deltas: str) -> list[dict[str, Any]]:
    """A message that pushes out what it says at first, and then says what is forbidden."""
    return message(at, *deltas, " and so on, ", " and on and ", MARK)[: len(deltas) + 5]


def _repeated_otherwise() -> list[dict[str, Any]]:
    """By the deltas "zjar"; by the items, with ours, "Nightjar"."""
    events = message(0, "z")
    events[-1] = {**events[-1], "item": message_item(0, "Night")}
    return [*events, *_blocked(1, "jar")]


def _repeated_in_part() -> list[dict[str, Any]]:
    """By the parts, with ours, "Nightjar": nobody has heard the end of the second."""
    second = message(1, " and on ")
    return [*message(0, "Night"), *second[:3], second[-1], *_blocked(2, "jar")]


def _ended_before_its_item() -> list[dict[str, Any]]:
    """Its first part's end once more: "jar, Nightjar, Night"."""
    ended = message(0, "jar, Night")[:-1]
    more = [{**event, "content_index": 1} for event in _blocked(0)[1:]]
    return [*ended, *more]


def _announced_after_its_deltas() -> list[dict[str, Any]]:
    """The deltas behind what the announcement repeats: "jar, Nightjar, Night"."""
    item, part, delta, *_ = message(0, "jar, Night")
    begun = {**part, "part": {**part["part"], "text": "jar, Night"}}
    return [item, delta, begun, *_blocked(0)[2:]]


def _done_twice() -> list[dict[str, Any]]:
    """In the response "Nightjar", where the last word of each item counts."""
    last = {**message(1, "z")[-1], "item": message_item(1, "jar")}
    return [*message(0, "Night"), *message(1, "z"), last, *_blocked(2)]


def _two_kinds_at_one_place() -> list[dict[str, Any]]:
    item, part, delta, *rest = _blocked(0, "Night")
    return [item, part, delta, {**delta, "type": "response.refusal.delta", "delta": "jar"}, *rest]


@steps
@pytest.mark.parametrize(
    "events",
    [
        _repeated_otherwise,
        _repeated_in_part,
        _ended_before_its_item,
        _announced_after_its_deltas,
        _done_twice,
        _two_kinds_at_one_place,
    ],
)
async def test_what_we_repeat_of_a_blocked_answer_is_news_to_nobody(events: Any, step: int) -> None:
    sent = await answered(*events(), output=[], step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert all(MARK not in each for each in said(sent.body).values())
    assert said(sent.body)["output_text"].endswith("NO")


@steps
async def test_what_we_repeat_of_a_blocked_answer_is_what_has_left(step: int) -> None:
    events = [*message(0, "The Night"), *_blocked(1, " and the ")]
    sent = await answered(*events, output=[], step=step)
    whole = "The Night and the  and so on, NO"
    assert {said(sent.body)[kind] for kind in ("response.output_item.done", "output_text")} == {whole}


@steps
async def test_a_part_that_has_ended_does_not_end_again(step: int) -> None:
    events = _ended_before_its_item()
    sent = await answered(*events, output=[], step=step)
    ends = [event for event in parsed(sent.body) if event["type"] == "response.output_text.done"]
    assert [event["text"] for event in ends] == ["jar, Night", " and so on, ", "NO"]


@steps
@pytest.mark.parametrize("at", [3, 4, 5], ids=["the text", "the part", "the item"])
async def test_a_repeat_that_comes_twice_is_read_twice(at: int, step: int) -> None:
    events = message(0, "jar, Night")
    events.insert(at, events[at])
    sent = await answered(*events, output=[message_item(0, "jar, Night")], step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


# -- frames that only have a name --------------------------------------------------------------------------------------


def untyped(event: dict[str, Any], type: Any = None) -> bytes:
    """A frame of which only the name says what it is."""
    said = {**event, "type": type} if type is not None else {k: v for k, v in event.items() if k != "type"}
    return f"event: {event['type']}\ndata: {json.dumps(said)}\n\n".encode()


@steps
@pytest.mark.parametrize("type", [None, 5, {"a": "b"}])
async def test_a_word_in_events_that_are_only_named_is_seen(type: Any, step: int) -> None:
    begin, part, first, second, *rest = message(0, "Night", "jar")
    events = [untyped(each, type) for each in (begin, part, first, second)]
    body = stream(response("created", [])) + b"".join(events) + stream(*rest)
    sent = await through([Forbids()], body, format=API, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


@steps
@pytest.mark.parametrize("type", [None, 5, {"a": "b"}])
async def test_events_that_are_only_named_are_the_same_for_all_clients(type: Any, step: int) -> None:
    """Who goes by the type would read "Nightjar"."""
    events = message(0, "Night", " and ", "jar")
    frames = [untyped(each, type) if each.get("delta") == " and " else stream(each) for each in events]
    completed = response("completed", [message_item(0, "Night and jar")])
    body = stream(response("created", [])) + b"".join(frames) + stream(completed)
    sent = await through([Forbids()], body, format=API, step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert set(said(sent.body).values()) - {""} == {"Night and jar"}
    assert b'"type": null' not in sent.body


async def test_an_item_that_is_announced_by_the_name_of_its_frame_is_one_in_the_list() -> None:
    """Without the call in front of it, it stands where that stood."""

    class Judge(Policy):
        @hookimpl
        def on_tool_call_completed(self, call: ToolCall) -> Block:
            return Block("no", "")

    begin, *rest = message(1, "hello")
    body = stream(response("created", []), *call(0, "{}")) + untyped(begin) + stream(*rest)
    sent = await through([Judge()], body, format=API)
    announced = [each for each in parsed(sent.body) if each["type"] == "response.output_item.added"]
    assert [each["output_index"] for each in announced] == list(range(len(announced)))


# -- clients that go by items ------------------------------------------------------------------------------------------


def by_item(body: bytes) -> dict[str, str]:
    """The texts of a stream, as clients have them that append each delta to the text of its item."""
    found: dict[str, str] = {}
    for event in parsed(body):
        if event["type"] == "response.output_text.delta":
            found[event["item_id"]] = found.get(event["item_id"], "") + event["delta"]
    return found


@steps
@pytest.mark.parametrize("start", ["", "jar"])
async def test_parts_around_another_items_text_are_no_text_of_one_item(start: str, step: int) -> None:
    begun, *first = message(0, "Night")[:-1]
    announced, *rest = part(1, "jar")
    announced = {**announced, "part": {**announced["part"], "text": start}}
    second = [announced, *(each for each in rest if not start or "delta" not in each)]
    events = [begun, *first, *message(1, " and "), *second]
    sent = await answered(*events, output=[], step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert list(by_item(sent.body).values()) == ["Night", " and ", "jar"]
    assert printed(sent.body) == "Night and jar"


def _told_by_vercel(body: bytes) -> str:
    """Its SDK takes a refusal for more of the text."""
    kinds = ("response.output_text.delta", "response.refusal.delta")
    return "".join(event["delta"] for event in parsed(body) if event["type"] in kinds)


@steps
@pytest.mark.parametrize("words", [("Ni", "ght", "jar"), ("x", "Night", "jar"), ("Night", "jar", "x")])
async def test_a_refusal_among_texts_is_read_with_them(words: tuple[str, str, str], step: int) -> None:
    text, refusal, more = words
    item, begun, delta, *rest = message(0, text)
    events = [
        item,
        begun,
        delta,
        {**delta, "type": "response.refusal.delta", "delta": refusal},
        {**delta, "delta": more},
        *rest,
    ]
    sent = await answered(*events, output=[message_item(0, text)], step=step)
    assert MARK not in _told_by_vercel(sent.body)
    assert all(MARK not in each for each in said(sent.body).values())


@steps
async def test_a_refusal_behind_a_text_leaves_as_it_came(step: int) -> None:
    item, begun, delta, *rest = message(0, "Night")
    refusal = {**delta, "type": "response.refusal.delta", "delta": "ly no"}
    events = [item, begun, delta, refusal, *rest]
    sent = await answered(*events, output=[message_item(0, "Night")], step=step)
    assert _told_by_vercel(sent.body) == "Nightly no"
