"""`check_sink`: does a store keep what the delivery and the query side rely on? For stores of your own too.

def test_my_store(tmp_path):
    check_sink(lambda: MyStore(tmp_path / "db"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from luthien_guard.errors import SinkError
from luthien_guard.records import EventType
from luthien_guard.store import CallFilter, Row, Store, chained, payload_of

__all__ = ["check_sink", "exchange_rows"]

_AWKWARD = ("\0 NUL", "\udc80 lone", "🙂 é \u2028", "%_\\ ' \" --", "x" * 1_000_000)

_ASKED = 'Say "größe" C:\\Dir\nnext'


def exchange_rows(
    number: int, *texts: str, writer: str = "w", ended: bool = True, **request: Any
) -> list[Row]:
    """The rows of one exchange: `number` orders calls by time; `texts` become a policy's records."""
    call_id = f"0190{number:08x}-0000-7000-8000-000000000000"
    received = {"wire_format": "openai.chat", "endpoint": "/v1/chat/completions", "model": "m", "stream": True,
                "session_id": None, "writer": writer, "body": "{}", **request}  # fmt: skip
    facts: list[tuple[EventType, str | None, dict[str, Any]]] = [(EventType.REQUEST_RECEIVED, None, received)]
    facts += [(EventType.POLICY_RECORD, "judge", {"text": text}) for text in texts]
    facts.append((EventType.USAGE, None, {"usage": {"total_tokens": number}}))
    if ended:
        facts.append((EventType.CLOSED, "judge", {"outcome": "blocked" if number % 2 else "success"}))
    rows: list[Row] = []
    for seq, (type, policy, details) in enumerate(facts):
        before = rows[-1].hash if rows else ""
        rows.append(
            chained(call_id, seq, 1000.0 * number + seq, type.value, policy, payload_of(details), before)
        )
    return rows


def check_sink(make: Callable[[], Store], *, keeps: bool = True) -> None:
    """Run every check, each on what the ones before left. `make` gives a store, closed, on the same data every time
    (`keeps=False`: data that ends with the object). Raises AssertionError that says which promise is broken."""
    store = make()
    store.open()
    try:
        _starts_empty(store)
        _keeps_rows(store)
        _keeps_one_row_a_key(store)
        _projects_calls(store)
        _filters(store)
        _tails(store)
        _knows_the_unfinished(store)
        if keeps:
            store = _reopened(store, make)
        _takes_many(store)
        if keeps:
            _is_seen_by_others(store, make)
        _prunes(store, shared=keeps)
        _survives_what_clients_send(store)
        _keeps_what_the_end_said(store)
        _prunes_events(store)
        if keeps:
            _is_followed_over_a_prune(store, make)
            _tails_large_rows_a_few_at_a_time(store)
        _prunes_what_was_seen(store)
    finally:
        store.close()
    _refuses_when_closed(store)


def _same(promise: str, found: object, wanted: object) -> None:
    assert found == wanted, f"{promise}: expected {wanted!r}, found {found!r}"[:2000]


def _starts_empty(store: Store) -> None:
    _same("a new store is empty", store.calls(CallFilter()), [])
    for id in ("none", "\0", "\udc80"):
        _same("there is no call that nobody wrote", store.call(id), None)
        _same("there are no rows that nobody wrote", store.rows(id), [])
    _same("writing nothing is allowed", store.write([]).stored, 0)
    _same("retention took nothing yet", store.pruned(), None)


def _keeps_rows(store: Store) -> None:
    for number, text in enumerate(_AWKWARD, 1):
        rows = exchange_rows(number, text)
        _same("new rows are stored", store.write(rows[:2]).stored, 2)
        _same("new rows are stored", store.write(rows[2:], durable=True).stored, 2)
        _same("rows come back as they were", store.rows(rows[0].call_id), rows)
        _same("rows after a number", store.rows(rows[0].call_id, after=1), rows[2:])


def _keeps_one_row_a_key(store: Store) -> None:
    rows = exchange_rows(1, _AWKWARD[0])
    written = store.write(rows)
    _same("rows that are there are known", (written.stored, written.known, written.conflicts), (0, 4, ()))
    other = chained(rows[1].call_id, 1, 9.0, rows[1].event_type, None, "{}", rows[0].hash)
    written = store.write([other, *exchange_rows(6)])
    _same("a key with other content is a conflict", (written.stored, written.conflicts), (3, (other,)))
    _same("a conflict changes nothing", store.rows(rows[0].call_id), rows)
    forged = chained(
        rows[0].call_id, 3, 9.0, EventType.CLOSED.value, None, '{"outcome":"forged"}', rows[2].hash
    )
    _same("a forged end is a conflict", store.write([forged]).conflicts, (forged,))
    call = store.call(rows[0].call_id)
    _same("a conflict does not show in the line of the call", call and call.outcome, "blocked")


def _projects_calls(store: Store) -> None:
    body = json.dumps({"content": _ASKED}, ensure_ascii=False)
    rows = exchange_rows(7, "late", session_id="s7", stream=False, body=body)
    for row in reversed(rows):  # a spool that was mended may bring them in any order
        store.write([row])
    call = store.call(rows[0].call_id)
    assert call is not None, "a call that was written is there"
    facts = (
        call.started_at,
        call.ended_at,
        call.outcome,
        call.blocked_by,
        call.model,
        call.stream,
        call.session_id,
    )
    _same("the line of a call", facts, (7000.0, 7003.0, "blocked", "judge", "m", False, "s7"))
    _same("what the provider counted", call.usage, {"total_tokens": 7})


def _keeps_what_the_end_said(store: Store) -> None:
    """The upstream may serve another model than was asked for, and says so at the end."""
    first, *_ = asked = exchange_rows(7_001, model="asked", writer="x", ended=False)
    said = {"outcome": "success", "model": "served"}
    end = chained(first.call_id, 2, 9.0, EventType.CLOSED.value, None, payload_of(said), asked[-1].hash)
    store.write([end, first])
    store.write(asked)  # again
    call = store.call(first.call_id)
    _same("the model is that of the end, also when the beginning comes again", call and call.model, "served")
    _same("what is written again is not stored again", len(store.rows(first.call_id)), 3)


def _survives_what_clients_send(store: Store) -> None:
    """Columns come from requests: whoever can send one that is refused can stop the records."""
    values = ("\ud800", "nul\0", "m" * 10_000, ["x"], {"x": [1]}, 2**70, 1.5, True)
    for number, value in enumerate(values, 7_010):
        rows = exchange_rows(number, model=value, session_id=value, stream=value, user_id=value, writer="x")
        _same(f"a request whose model is {value!r:.20} is stored", store.write(rows).stored, len(rows))
        call = store.call(rows[0].call_id)
        assert call is not None, f"the call is there whose model is {value!r:.20}"
        assert isinstance(call.model, str), f"a model is text: expected a str, found {call.model!r:.20}"
        _same("`stream` is a bool", call.stream, True)
        found = store.calls(CallFilter(model=call.model, since=rows[0].at, until=rows[0].at + 1))
        _same("a call is found by its model", found, [call])
    _same("a text that is no Unicode is looked for", store.calls(CallFilter(text="\udc81")), [])
    _same("a long text is looked for", store.calls(CallFilter(text="%_" * 50_000)), [])


def _filters(store: Store) -> None:
    def numbers(**wanted: Any) -> list[int]:
        return [int(call.call_id[4:12], 16) for call in store.calls(CallFilter(**wanted))]

    body = json.dumps({"content": _ASKED})
    store.write(exchange_rows(8, "Needle_1 100%", model="other", endpoint="/x", ended=False, body=body))
    _same("newest first", numbers(), [8, 7, 6, 5, 4, 3, 2, 1])
    _same("a limit", numbers(limit=2), [8, 7])
    _same("the page before a call", numbers(limit=2, before=exchange_rows(7)[0].call_id), [6, 5])
    _same("since", numbers(since=6000.0), [8, 7, 6])
    _same("until", numbers(until=3000.0), [2, 1])
    _same("by model", numbers(model="other"), [8])
    _same("by endpoint", numbers(endpoint="/x"), [8])
    _same("by outcome", numbers(outcome="blocked"), [7, 5, 3, 1])
    _same("by session", numbers(session_id="s7"), [7])
    _same("by policy", numbers(policy="judge"), [8, 7, 6, 5, 4, 3, 2, 1])
    _same("by another policy", numbers(policy="jud"), [])
    _same("by text, whatever the case", numbers(text="needle_1 100%"), [8])
    _same("a text is no pattern", numbers(text="needle%"), [])
    _same("by text that is not ASCII", numbers(text="🙂 é"), [3])
    for text in (_ASKED, _ASKED.lower(), 'say "größe"', "c:\\dir", "dir\nnext"):
        _same(f"by a text of a body, however that spells it: {text!r}", numbers(text=text), [8, 7])
    whole = exchange_rows(7)[0].call_id
    for name in (whole, whole[:12], f"{whole[4:12]}-0000-7000-8000-000000000000"):
        _same("by how an id begins or ends", numbers(named=name), [7])
    _same("a part within it is none", numbers(named=whole[5:20]), [])
    _same("nor is a pattern", numbers(named="0190%"), [])
    _same("two conditions", numbers(outcome="blocked", until=4000.0), [3, 1])


def _tails(store: Store) -> None:
    position, rows = store.tail()
    _same("a tail begins with nothing", rows, [])
    fresh = [*exchange_rows(9, "a"), *exchange_rows(10, "b")]
    store.write(fresh)
    first, some = store.tail(position, limit=3)
    _, rest = store.tail(first, limit=500)
    _same("a tail gives what was stored since, in order", [*some, *rest], fresh)
    _same("a tail gives nothing twice", store.tail(store.tail()[0])[1], [])


def _tails_large_rows_a_few_at_a_time(store: Store) -> None:
    """They would fill the memory of who reads them."""
    position, _ = store.tail()
    large = exchange_rows(60, *["x" * 1_000_000] * 40)
    store.write(large)
    seen: list[Row] = []
    while found := store.tail(position)[1]:
        _same("not all at once", len(found) < len(large), True)
        position, _ = store.tail(position)
        seen += found
    _same("a tail gives large rows, too", seen == large, True)


def _knows_the_unfinished(store: Store) -> None:
    _same("calls without an end", store.unfinished(), [exchange_rows(8)[0].call_id])
    _same("calls of a writer without an end", store.unfinished("w"), [exchange_rows(8)[0].call_id])
    _same("calls of another writer", store.unfinished("v"), [])


def _reopened(store: Store, make: Callable[[], Store]) -> Store:
    before = (store.calls(CallFilter()), store.rows(exchange_rows(2)[0].call_id))
    store.close()
    again = make()
    again.open()
    _same(
        "a store keeps what it had",
        (again.calls(CallFilter()), again.rows(exchange_rows(2)[0].call_id)),
        before,
    )
    _same("rows are known after a restart", again.write(exchange_rows(10, "b")).known, 4)
    return again


def _takes_many(store: Store) -> None:
    rows = [row for number in range(100, 1100) for row in exchange_rows(number, "many")]
    before = store.stats()["events"]
    _same("a big batch", store.write(rows).stored, len(rows))
    _same("the number of events", store.stats()["events"], before + len(rows))


def _prunes(store: Store, shared: bool) -> None:
    stats = store.stats()
    _same("the number of calls", stats["calls"], 1011 if shared else 1010)
    _same("the oldest call", stats["oldest"], 1000.0)
    _same("pruning by age", store.prune(before=500_000.0), stats["calls"] - 600)
    _same("what is older is gone", store.calls(CallFilter(until=500_000.0)), [])
    _same("and its rows", store.rows(exchange_rows(1)[0].call_id), [])
    _same("what is younger stays", len(store.calls(CallFilter(limit=5000))), 600)
    late = store.write([*exchange_rows(100, "many")[1:], *exchange_rows(900, "many")])
    _same("what comes late of a call that was pruned is not stored, and counted", late.pruned, 3)
    _same("and what is there is known", (late.stored, late.known), (0, 4))
    _same("half a call does not come back", store.call(exchange_rows(100)[0].call_id), None)
    _takes_calls_of_a_slow_clock(store)
    smaller = store.stats()["bytes"] // 2
    assert store.prune(max_bytes=smaller) > 0, "pruning by size takes something"
    kept: Sequence[Any] = store.calls(CallFilter(limit=5000))
    assert kept, "and leaves something"
    _same("the newest stays", kept[0].call_id, exchange_rows(1099)[0].call_id)


def _takes_calls_of_a_slow_clock(store: Store) -> None:
    """Clocks are set back: what begins then has an older id than what retention took last."""
    youngest = exchange_rows(499)[0].call_id
    _same("up to where retention went", store.pruned(), youngest)
    first, *rest = exchange_rows(11, "slow")
    _same("a call that begins is stored, whatever its id", store.write([first]).stored, 1)
    _same("and what follows", store.write(rest).stored, len(rest))
    _same("all of it", store.rows(first.call_id), [first, *rest])
    _same("and goes with the next pruning", store.prune(before=500_000.0), 1)
    _same("which remembers as much as before", store.pruned(), youngest)
    alone = exchange_rows(12, "cut")[-1]
    end = chained(alone.call_id, 0, alone.at, alone.event_type, None, '{"outcome":"interrupted"}', "")
    _same("an end alone is what came late", store.write([end]).pruned, 1)


def _prunes_events(store: Store) -> None:
    events = store.stats()["events"]
    rows = exchange_rows(8_000, "young")
    store.write(rows)
    _same("there is nothing so old", store.prune(before=0.0, events_only=True), 0)
    assert store.prune(before=8_000_000.0, events_only=True) > 0, "pruning events by age takes something"
    _same("and leaves what is younger", store.rows(rows[0].call_id), rows)
    _same("their number", store.stats()["events"], len(rows))
    assert events, "there were events to prune"
    _same("nothing is left to prune", store.prune(before=8_000_000.0, events_only=True), 0)
    _hears_the_end_of_pruned_calls(store)
    _dates_calls_without_a_beginning(store)


def _dates_calls_without_a_beginning(store: Store) -> None:
    """It may lie in a quarantine. The id says when the call was."""
    rest = exchange_rows(8_003, "orphan")[1:]
    _same("a young call is stored without its beginning, too", store.write(rest).stored, len(rest))
    found = store.calls(CallFilter(until=2e9, since=1.0, session_id=None, limit=1))
    _same("and found by its time", [call.call_id for call in found], [rest[0].call_id])
    store.prune(before=2e9)
    _same("and pruned with the others", store.rows(rest[0].call_id), [])


def _hears_the_end_of_pruned_calls(store: Store) -> None:
    """A call that went on while its events were pruned; a store may keep no line without them."""
    *open, end = exchange_rows(8_001, "long")
    store.write([*open, *exchange_rows(8_002)])
    assert store.prune(before=8_002_000.0, events_only=True) > 0, "pruning events of a call that is under way"
    _same("its end comes late", store.write([end]).pruned, 1)
    _same("and is not stored", store.rows(end.call_id), [])
    line = store.call(end.call_id)
    _same(
        "its line, where it is kept, says how it ended",
        line is None or line.outcome,
        line is None or "blocked",
    )


def _is_seen_by_others(store: Store, make: Callable[[], Store]) -> None:
    """Questions come through a store of their own, while another one writes."""
    reader = make()
    reader.open()
    try:
        position, _ = reader.tail()
        rows = exchange_rows(50, "seen")
        store.write(rows)
        _same("another store sees what was written", reader.rows(rows[0].call_id), rows)
        _same("and its line", reader.call(rows[0].call_id), store.call(rows[0].call_id))
        _same("and in its tail", reader.tail(position)[1], rows)
    finally:
        reader.close()
    _same("another store that closes closes nothing of this one", store.rows(rows[0].call_id), rows)


def _is_followed_over_a_prune(store: Store, make: Callable[[], Store]) -> None:
    """Who follows sees nothing twice, and nothing too little."""
    old, young, late = (
        exchange_rows(9_000, "a", "b"),
        exchange_rows(9_001, "young"),
        exchange_rows(9_002, "late"),
    )
    reader = make()
    reader.open()
    try:
        position, _ = reader.tail()
        store.write([*old, *young])
        position, seen = reader.tail(position, limit=len(old) + 1)
        assert store.prune(before=9_000_500.0) > 0, "pruning by age takes something"
        store.write(late)
        while rows := reader.tail(position)[1]:
            position, _ = reader.tail(position)
            seen += rows
        _same("a tail goes on behind a prune", seen, [*old, *young, *late])
    finally:
        reader.close()


def _prunes_what_was_seen(store: Store) -> None:
    """Who reads up to a position and prunes loses nothing that came meanwhile."""
    whole, growing, late = exchange_rows(9_100), exchange_rows(9_101), exchange_rows(9_102)
    store.write([*whole, *growing[:-1], *exchange_rows(9_200)])
    position, _ = store.tail()
    store.write([*late, growing[-1]])
    for events_only in (False, True):
        store.prune(before=9_150_000.0, events_only=events_only, seen=position)
        _same("what was seen whole is pruned", store.rows(whole[0].call_id), [])
        _same("a call that came meanwhile is not", store.rows(late[0].call_id), late)
        _same("nor one that went on", store.rows(growing[0].call_id), growing)
    store.prune(max_bytes=0, seen=position)
    _same("nor for its size", (store.rows(late[0].call_id), store.rows(growing[0].call_id)), (late, growing))


def _refuses_when_closed(store: Store) -> None:
    try:
        store.write(exchange_rows(2000))
    except SinkError:
        return
    raise AssertionError("a closed store takes rows without an error: they are lost")
