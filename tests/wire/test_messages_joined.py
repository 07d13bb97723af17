"""What clients join that stands in several blocks: texts read as one, and fragments of calls that are said at once."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
import pytest

from luthien_guard import Block, ContentChunk, Policy, ToolCall, hookimpl
from luthien_guard.events import UnknownChunk
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.policies.uppercase_nth_word import UppercaseNthWord
from tests.cases.chat_wire import through
from tests.official_sdks import reads
from tests.wire.joined import MARK, Forbids, steps
from tests.wire.messages_events import argued, begun, delta, finished, message, said, started, stopped, wire

pytestmark = pytest.mark.anyio
API = "anthropic.messages"


class Asks(Policy):
    """The same, of somebody who takes his time."""

    lookahead = len(MARK)
    waits = True

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        await anyio.lowlevel.checkpoint()
        return Block("mark", "NO") if MARK in chunk.text else None


class Edits(Policy):
    """Says which part it changes, or gives all of it anew."""

    lookahead = len(MARK)

    def __init__(self, mark: str = MARK, new: str = "[it]", *, anew: bool = False) -> None:
        self._mark, self._new, self._anew = mark, new, anew

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        if self._anew:
            return chunk.replace(text=chunk.text.replace(self._mark, self._new))
        found = re.finditer(re.escape(self._mark), chunk.text)
        return chunk.edit(*((each.start(), each.end(), self._new) for each in found))


def texts_of(body: bytes, *, stream: bool) -> list[str]:
    """The texts of the message that the official SDK puts together; joined they are what `get_final_text` gives."""
    if not stream:
        return [block.text for block in reads(API, body, stream=False)[0].content]
    texts: dict[int, str] = {}
    for event in reads(API, body, stream=True):
        if event.type == "content_block_start" and event.content_block.type == "text":
            texts[event.index] = event.content_block.text
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            texts[event.index] += event.delta.text
    return [texts[index] for index in sorted(texts)]


def streamed(*texts: str) -> bytes:
    events = [
        each
        for at, text in enumerate(texts)
        for each in (begun(at), *(said(at, c) for c in text), stopped(at))
    ]
    return wire(started(), *events, *finished())


def whole(*texts: str) -> bytes:
    return json.dumps(message([{"type": "text", "text": text} for text in texts])).encode()


@steps
@pytest.mark.parametrize("policy", [Forbids, Asks])
@pytest.mark.parametrize(
    "texts", [("see Night", "jar now"), ("a N", "igh", "", "tjar"), ("Nightja", "r"), ("N", "ightjar")]
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "body"])
async def test_a_word_that_is_cut_over_texts_is_seen(
    texts: tuple[str, ...], policy: type[Policy], stream: bool, step: int
) -> None:
    body = streamed(*texts) if stream else whole(*texts)
    sent = await through([policy()], body, format=API, stream=stream, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert MARK not in "".join(texts_of(sent.body, stream=stream))


@steps
async def test_what_stands_between_texts_parts_them_for_nobody(step: int) -> None:
    call = begun(1, "server_tool_use", name="web_search")
    between = [call, delta(1, "input_json_delta", partial_json="{}"), stopped(1)]
    texts = [begun(0), said(0, "Night"), stopped(0), *between, begun(2), said(2, "jar"), stopped(2)]
    sent = await through([Forbids()], wire(started(), *texts, *finished()), format=API, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


@steps
@pytest.mark.parametrize("anew", [False, True], ids=["edits", "anew"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "body"])
async def test_of_a_word_that_is_cut_the_part_that_is_still_here_is_changed(
    anew: bool, stream: bool, step: int
) -> None:
    texts = ("see Night", "jar now, Nightjar", " and on")
    body = streamed(*texts) if stream else whole(*texts)
    sent = await through([Edits(anew=anew)], body, format=API, stream=stream, step=step)
    assert texts_of(sent.body, stream=stream) == ["see Night", "[it] now, [it]", " and on"]


@steps
@pytest.mark.parametrize("anew", [False, True], ids=["edits", "anew"])
async def test_what_was_changed_in_the_text_before_is_not_changed_again(anew: bool, step: int) -> None:
    policy = Edits("a", "aa", anew=anew)
    sent = await through([policy], streamed("ba", "na", "", "na a na na na a"), format=API, step=step)
    assert texts_of(sent.body, stream=True) == ["baa", "naa", "", "naa aa naa naa naa aa"]


@steps
async def test_a_policy_sees_the_text_before_as_it_left(step: int) -> None:
    sent = await through([Edits(), Forbids()], streamed("a Nightjar", " b"), format=API, step=step)
    assert sent.outcome.status is OutcomeStatus.SUCCESS
    assert texts_of(sent.body, stream=True) == ["a [it]", " b"]


@steps
async def test_reasoning_is_no_part_of_the_answer(step: int) -> None:
    thinking = {"type": "thinking", "text": None, "thinking": "", "signature": ""}
    del thinking["text"]
    events = [
        {"type": "content_block_start", "index": 0, "content_block": thinking},
        delta(0, "thinking_delta", thinking="Night"),
        stopped(0),
        begun(1),
        said(1, "jar"),
        stopped(1),
    ]
    body = wire(started(), *events, *finished())
    sent = await through([Forbids()], body, format=API, step=step)
    assert sent.body == body


@steps
async def test_texts_that_are_said_at_the_same_time_are_read_in_one_order(step: int) -> None:
    """By the blocks this says "xNight", "jar"; by the events "x", "jar", "Night"."""
    events = [begun(0), said(0, "x"), begun(1), said(1, "jar"), said(0, "Night"), stopped(0), stopped(1)]
    sent = await through([Forbids()], wire(started(), *events, *finished()), format=API, step=step)
    assert MARK not in "".join(texts_of(sent.body, stream=True))
    assert texts_of(sent.body, stream=True) == ["x", "jar", "Night"]


async def test_a_start_before_the_stop_of_the_text_before_leaves_as_it_came() -> None:
    events = [begun(0), said(0, "a"), begun(1), stopped(0), said(1, "b"), stopped(1), *finished()]
    body = wire(started(), *events)
    assert (await through([Forbids()], body, format=API)).body == body


@steps
async def test_what_a_text_says_in_its_start_is_read_by_those_that_print_deltas(step: int) -> None:
    """`text_stream` of the official SDK skips the "x", and would be "Nightjar"."""
    events = [
        begun(0),
        said(0, "Night"),
        stopped(0),
        begun(1, text="x"),
        said(1, "jar"),
        stopped(1),
        *finished(),
    ]
    sent = await through([Forbids()], wire(started(), *events), format=API, step=step)
    deltas = [each for each in reads(API, sent.body, stream=True) if each.type == "content_block_delta"]
    assert "".join(each.delta.text for each in deltas) == "Nightxjar"
    assert texts_of(sent.body, stream=True) == ["Night", "xjar"]


# -- summaries -------------------------------------------------------------------------------------------------------------


def summary(at: int, *contents: str | None, begins: str | None = None) -> list[dict[str, Any]]:
    start = {"type": "content_block_start", "index": at}
    parts = [delta(at, "compaction_delta", content=each) for each in contents]
    return [{**start, "content_block": {"type": "compaction", "content": begins}}, *parts, stopped(at)]


def texts(at: int, *parts: str) -> list[dict[str, Any]]:
    return [begun(at), *(said(at, part) for part in parts), stopped(at)]


def vercel(body: bytes) -> str:
    """Vercel's SDK: a summary is a text, and what it says goes on with whatever text is open there."""
    found = ""
    for event in reads(API, body, stream=True):
        if event.type == "content_block_delta" and event.delta.type in ("text_delta", "compaction_delta"):
            found += getattr(event.delta, "text", None) or getattr(event.delta, "content", None) or ""
    return found


class Answers(Forbids):
    channels = frozenset({"content"})


@steps
@pytest.mark.parametrize(
    "events",
    [
        summary(0, f"a {MARK}"),
        summary(0, "Night", "jar"),
        summary(0, "jar", begins="xNight"),
        summary(0, begins=MARK),
        [*summary(0, "Night"), *texts(1, "jar")],
        [*texts(0, "Night"), *summary(1, "jar")],
        [*texts(0, "Night"), *summary(1, "x"), *texts(2, "jar")],
        [*summary(0, "Night"), *summary(1, None), *texts(2, "jar")],
    ],
)
async def test_a_summary_is_text_that_clients_show(events: list[Any], step: int) -> None:
    sent = await through(
        [Answers()], wire(started(), *events, *finished("compaction")), format=API, step=step
    )
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert MARK not in vercel(sent.body) + "|" + "".join(texts_of(sent.body, stream=True))


async def test_a_summary_in_a_body_is_text_too() -> None:
    body = json.dumps(message([{"type": "compaction", "content": MARK}])).encode()
    sent = await through([Answers()], body, format=API, stream=False)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert MARK.encode() not in sent.body


@steps
async def test_a_part_of_a_summary_goes_on_with_no_other_text(step: int) -> None:
    more = delta(0, "compaction_delta", content="jar")
    events = [begun(0), said(0, "Night"), more, said(0, " on"), stopped(0)]
    sent = await through([Answers()], wire(started(), *events, *finished()), format=API, step=step)
    assert vercel(sent.body) == "Night on"


@steps
async def test_no_client_joins_a_part_of_a_summary_to_what_its_start_says(step: int) -> None:
    events = [*texts(0, "Night"), *summary(1, "jar", begins="x")]
    sent = await through([Answers()], wire(started(), *events, *finished()), format=API, step=step)
    assert vercel(sent.body) == "Nightxjar"


@steps
@pytest.mark.parametrize("contents", [("a b",), (None,), ("",)])
async def test_a_summary_leaves_as_it_came_and_nobody_rewrites_it(contents: Any, step: int) -> None:
    body = wire(started(), *summary(0, *contents), *texts(1, "c"), *finished())
    assert (await through([Answers()], body, format=API, step=step)).body == body
    sent = await through([UppercaseNthWord(1)], body, format=API, step=step)
    assert sent.body == body.replace(b'"text": "c"', b'"text": "C"')


# -- calls -------------------------------------------------------------------------------------------------------------


def last_begun(body: bytes) -> list[str]:
    """The arguments for clients that take a fragment for one of the call that began last."""
    found: list[str] = []
    for event in reads(API, body, stream=True):
        if event.type == "content_block_start":
            found.append("")
        elif event.type == "content_block_delta":
            found[-1] += event.delta.partial_json
    return found


def by_index(body: bytes) -> list[str]:
    found: dict[int, str] = {}
    for event in reads(API, body, stream=True):
        if event.type == "content_block_delta":
            found[event.index] = found.get(event.index, "") + event.delta.partial_json
    return [found[index] for index in sorted(found)]


def use(at: int) -> dict[str, Any]:
    return begun(at, "tool_use")


class Calls(Policy):
    """Forbids what holds the mark."""

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("mark", "NO") if MARK in call.arguments else None


MIXED = [
    [use(0), argued(0, '{"a":'), use(1), argued(1, '{"b":'), argued(0, "1}"), argued(1, "2}")],
    [use(0), use(1), argued(1, '{"b":2}'), argued(0, '{"a":1}')],
    [use(0), use(1), argued(0, '{"a":1}'), stopped(0), argued(1, '{"b":2}')],
    [use(0), argued(0, '{"a":'), use(1), argued(1, '{"b":2}'), stopped(1), argued(0, "1}")],
]


@steps
@pytest.mark.parametrize("policies", [[], [Calls()], [Forbids()]], ids=["none", "calls", "texts"])
@pytest.mark.parametrize("events", MIXED)
async def test_calls_that_are_said_at_the_same_time_leave_one_after_the_other(
    events: list[Any], policies: list[Policy], step: int
) -> None:
    ends = [stopped(at) for at in (0, 1) if stopped(at) not in events]
    sent = await through(
        policies, wire(started(), *events, *ends, *finished("tool_use")), format=API, step=step
    )
    want = ['{"a":1}', '{"b":2}']
    assert by_index(sent.body) == want
    if policies:
        assert last_begun(sent.body) == want


@steps
async def test_fragments_of_two_calls_say_nothing_that_neither_says(step: int) -> None:
    events = [
        use(0),
        use(1),
        argued(1, '{"b":"Night'),
        argued(0, "jar"),
        argued(1, '"}'),
        stopped(0),
        stopped(1),
    ]
    sent = await through([Calls()], wire(started(), *events, *finished("tool_use")), format=API, step=step)
    assert all(MARK not in call for call in [*last_begun(sent.body), *by_index(sent.body)])


@steps
@pytest.mark.parametrize("bad", [0, 1])
async def test_a_call_that_waits_for_another_may_be_forbidden_too(bad: int, step: int) -> None:
    events = [use(0), use(1), argued(1 - bad, "{}"), argued(bad, f'{{"a":"{MARK}"}}'), stopped(1), stopped(0)]
    sent = await through([Calls()], wire(started(), *events, *finished("tool_use")), format=API, step=step)
    assert texts_of(sent.body, stream=True) == ["NO"]
    assert MARK.encode() not in sent.body and b'"partial_json": "{}"' in sent.body


@steps
async def test_nothing_overtakes_a_call_that_begins_anew_while_it_waits(step: int) -> None:
    # of no known type, and all in its start: what its deltas say is a call of its own
    again = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "zork_call", "x": "", "id": "u"},
    }
    events = [use(0), again, argued(1, MARK), stopped(0), argued(1, MARK), argued(1, "z"), stopped(1)]
    sent = await through([Calls()], wire(started(), *events, *finished("tool_use")), format=API, step=step)
    assert texts_of(sent.body, stream=True) == ["NO"]
    assert MARK.encode() not in sent.body


async def test_calls_that_no_event_ends_leave_with_the_message() -> None:
    events = [use(0), use(1), argued(1, "{}"), argued(0, "{}"), *finished("tool_use")]
    sent = await through([Forbids()], wire(started(), *events), format=API)
    assert sent.body == wire(
        started(), use(0), argued(0, "{}"), use(1), argued(1, "{}"), *finished("tool_use")
    )


async def test_what_waits_for_a_call_leaves_where_the_bytes_end() -> None:
    events = [started(), use(0), use(1), argued(1, "{}"), argued(0, "{")]
    sent = await through([Forbids()], wire(*events), format=API)
    assert sent.body == wire(started(), use(0), argued(0, "{"), use(1), argued(1, "{}"))


def printed(body: bytes) -> str:
    """What a client shows that looks for texts in the deltas of the official SDK, whatever the event is."""
    deltas = [getattr(event, "delta", None) for event in reads(API, body, stream=True)]
    return "".join(getattr(delta, "text", None) or "" for delta in deltas)


@steps
@pytest.mark.parametrize(
    "kinds",
    [("odd", "other"), ("odd", "content_block_delta"), ("content_block_delta", "odd")],
    ids=" ".join,
)
@pytest.mark.parametrize("of", ["text_delta", "odd_delta"])
async def test_a_word_is_not_cut_over_deltas_of_events_that_nobody_knows(
    kinds: tuple[str, str], of: str, step: int
) -> None:
    """Within a kind of event policies see it joined; over two kinds nobody could say who reads on."""
    first, second = (
        {**delta(0, of, text=text), "type": kind} for kind, text in zip(kinds, ("Night", "jar"), strict=True)
    )
    sent = await through(
        [Forbids()], wire(started(), begun(0), first, second, stopped(0), *finished()), format=API, step=step
    )
    assert MARK not in printed(sent.body)


ODD = {"type": "content_block_start", "index": 0, "content_block": {"type": "odd"}}


def of_odd(*texts: str) -> list[dict[str, Any]]:
    return [ODD, *(delta(0, "odd_delta", text=text) for text in texts), stopped(0)]


@steps
@pytest.mark.parametrize("policy", [Forbids, Asks])
@pytest.mark.parametrize(
    "events",
    [
        [*of_odd("Night"), begun(1), said(1, "jar"), stopped(1)],
        [begun(1), said(1, "Night"), stopped(1), *of_odd("j", "ar")],
        [*of_odd("Nig", "ht")[:-1], said(0, "jar"), stopped(0)],
        [
            {**ODD, "content_block": {"type": "odd", "text": "Night"}},
            delta(0, "odd_delta", text="jar"),
            stopped(0),
        ],
    ],
    ids=["before a text", "behind one", "in the same block", "from its start on"],
)
async def test_the_text_of_a_block_that_nobody_knows_is_read_with_the_others(
    events: list[dict[str, Any]], policy: type[Policy], step: int
) -> None:
    """Clients that ask a delta for its text, or a block, do not ask for its type; the SDK gives them one."""
    sent = await through([policy()], wire(started(), *events, *finished()), format=API, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED
    assert MARK not in printed(sent.body)


@pytest.mark.parametrize("policy", [Forbids, Asks])
async def test_so_it_is_in_a_body(policy: type[Policy]) -> None:
    content = [{"type": "odd", "text": "Night"}, {"type": "text", "text": "jar"}]
    sent = await through([policy()], json.dumps(message(content)).encode(), format=API, stream=False)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


#: Blocks that have no text, and what of them leaves.
BESIDE: list[dict[str, Any]] = [
    {"type": "tool_use", "id": "toolu_1", "name": "x", "input": {}},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "x", "input": {}},
    {"type": "odd_call", "id": "c1", "name": "x", "input": {}},
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "compaction", "content": None},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
]
beside = pytest.mark.parametrize("block", BESIDE, ids=[str(each["type"]) for each in BESIDE])


@steps
@pytest.mark.parametrize("kind", [None, 1, {"text": "text"}, ["text"]], ids=str)
async def test_so_it_is_where_the_type_is_no_string(kind: Any, step: int) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": kind, "text": "Night"}}
    events = [start, stopped(0), begun(1), said(1, "jar"), stopped(1)]
    sent = await through([Forbids()], wire(started(), *events, *finished()), format=API, step=step)
    assert sent.outcome.status is OutcomeStatus.BLOCKED


@beside
async def test_a_text_in_a_block_that_has_none_does_not_leave(block: dict[str, Any]) -> None:
    """Who takes the text of each block that has one would join it to the next."""
    content = [{**block, "text": "Night"}, {"type": "text", "text": "jar"}]
    sent = await through([Forbids()], json.dumps(message(content)).encode(), format=API, stream=False)
    assert json.loads(sent.body)["content"] == [block, content[1]]
    shown = (getattr(each, "text", None) or "" for each in reads(API, sent.body, stream=False)[0].content)
    assert "".join(shown) == "jar"


@steps
@beside
async def test_nor_does_it_in_a_stream(block: dict[str, Any], step: int) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {**block, "text": "Night"}}
    events = (begun(1), said(1, "jar"), stopped(1)) if block["type"] != "tool_use" else ()
    body = wire(started(), start, stopped(0), *events, *finished())
    sent = await through([Forbids()], body, format=API, step=step)
    assert b"Night" not in sent.body
    assert sent.body == body.replace(b', "text": "Night"', b"").replace(b',"text":"Night"', b"")


async def test_nor_do_thoughts_in_a_text() -> None:
    content = [{"type": "text", "text": "hi", "thinking": "Night"}, {"type": "thinking", "thinking": "jar"}]
    sent = await through([Forbids()], json.dumps(message(content)).encode(), format=API, stream=False)
    assert json.loads(sent.body)["content"] == [{"type": "text", "text": "hi"}, content[1]]


class Notes(Forbids):
    """What nobody knew."""

    def __init__(self) -> None:
        self._noted: list[str] = []

    @property
    def noted(self) -> list[str]:
        return self._noted

    @hookimpl
    def on_unknown_chunk(self, chunk: UnknownChunk) -> None:
        self._noted.append(chunk.reason)


@steps
async def test_each_of_its_events_is_still_one_that_nobody_knows_and_leaves_as_it_came(step: int) -> None:
    texts = ["a", "b", "c", "d", "e", "f", "g"]
    body = wire(started(), *of_odd(*texts), begun(1), said(1, "hi"), stopped(1), *finished())
    policy = Notes()
    sent = await through([policy], body, format=API, step=step)
    assert sent.body == body
    assert len(policy.noted) == 1 + len(texts)


async def test_a_text_of_a_block_that_nobody_knows_that_is_no_text_leaves_as_it_came() -> None:
    body = json.dumps(message([{"type": "odd", "text": {"a": ["b"]}}])).encode()
    assert (await through([Forbids()], body, format=API, stream=False)).body == body
