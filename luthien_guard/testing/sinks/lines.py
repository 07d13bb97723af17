"""The line of a call says what its rows say, in whatever order they come and whatever a client sent."""

from __future__ import annotations

import json

from luthien_guard.records import EventType
from luthien_guard.store import CallFilter, Store, chained, payload_of
from luthien_guard.testing.sinks.promises import same
from luthien_guard.testing.sinks.rows import ASKED, exchange_rows

__all__ = ["keeps_what_the_end_said", "knows_the_unfinished", "projects_calls", "survives_what_clients_send"]


def projects_calls(store: Store) -> None:
    body = json.dumps({"content": ASKED}, ensure_ascii=False)
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
    same("the line of a call", facts, (7000.0, 7003.0, "blocked", "judge", "m", False, "s7"))
    same("what the provider counted", call.usage, {"total_tokens": 7})


def knows_the_unfinished(store: Store) -> None:
    same("calls without an end", store.unfinished(), [exchange_rows(8)[0].call_id])
    same("calls of a writer without an end", store.unfinished("w"), [exchange_rows(8)[0].call_id])
    same("calls of another writer", store.unfinished("v"), [])


def keeps_what_the_end_said(store: Store) -> None:
    """The upstream may serve another model than was asked for, and says so at the end."""
    first, *_ = asked = exchange_rows(7_001, model="asked", writer="x", ended=False)
    said = {"outcome": "success", "model": "served"}
    end = chained(first.call_id, 2, 9.0, EventType.CLOSED.value, None, payload_of(said), asked[-1].hash)
    store.write([end, first])
    store.write(asked)  # again
    call = store.call(first.call_id)
    same("the model is that of the end, also when the beginning comes again", call and call.model, "served")
    same("what is written again is not stored again", len(store.rows(first.call_id)), 3)


def survives_what_clients_send(store: Store) -> None:
    """Columns come from requests: whoever can send one that is refused can stop the records."""
    values = ("\ud800", "nul\0", "m" * 10_000, ["x"], {"x": [1]}, 2**70, 1.5, True)
    for number, value in enumerate(values, 7_010):
        rows = exchange_rows(number, model=value, session_id=value, stream=value, user_id=value, writer="x")
        same(f"a request whose model is {value!r:.20} is stored", store.write(rows).stored, len(rows))
        call = store.call(rows[0].call_id)
        assert call is not None, f"the call is there whose model is {value!r:.20}"
        assert isinstance(call.model, str), f"a model is text: expected a str, found {call.model!r:.20}"
        same("`stream` is a bool", call.stream, True)
        found = store.calls(CallFilter(model=call.model, since=rows[0].at, until=rows[0].at + 1))
        same("a call is found by its model", found, [call])
    same("a text that is no Unicode is looked for", store.calls(CallFilter(text="\udc81")), [])
    same("a long text is looked for", store.calls(CallFilter(text="%_" * 50_000)), [])
