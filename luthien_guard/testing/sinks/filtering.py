"""Calls are found by each condition of a `CallFilter`, newest first."""

from __future__ import annotations

import json
from typing import Any

from luthien_guard.store import CallFilter, Store
from luthien_guard.testing.sinks.promises import same
from luthien_guard.testing.sinks.rows import ASKED, exchange_rows

__all__ = ["filters"]


def filters(store: Store) -> None:
    def numbers(**wanted: Any) -> list[int]:
        return [int(call.call_id[4:12], 16) for call in store.calls(CallFilter(**wanted))]

    body = json.dumps({"content": ASKED})
    store.write(exchange_rows(8, "Needle_1 100%", model="other", endpoint="/x", ended=False, body=body))
    same("newest first", numbers(), [8, 7, 6, 5, 4, 3, 2, 1])
    same("a limit", numbers(limit=2), [8, 7])
    same("the page before a call", numbers(limit=2, before=exchange_rows(7)[0].call_id), [6, 5])
    same("since", numbers(since=6000.0), [8, 7, 6])
    same("until", numbers(until=3000.0), [2, 1])
    same("by model", numbers(model="other"), [8])
    same("by endpoint", numbers(endpoint="/x"), [8])
    same("by outcome", numbers(outcome="blocked"), [7, 5, 3, 1])
    same("by session", numbers(session_id="s7"), [7])
    same("by policy", numbers(policy="judge"), [8, 7, 6, 5, 4, 3, 2, 1])
    same("by another policy", numbers(policy="jud"), [])
    same("by text, whatever the case", numbers(text="needle_1 100%"), [8])
    same("a text is no pattern", numbers(text="needle%"), [])
    same("by text that is not ASCII", numbers(text="🙂 é"), [3])
    for text in (ASKED, ASKED.lower(), 'say "größe"', "c:\\dir", "dir\nnext"):
        same(f"by a text of a body, however that spells it: {text!r}", numbers(text=text), [8, 7])
    whole = exchange_rows(7)[0].call_id
    for name in (whole, whole[:12], f"{whole[4:12]}-0000-7000-8000-000000000000"):
        same("by how an id begins or ends", numbers(named=name), [7])
    same("a part within it is none", numbers(named=whole[5:20]), [])
    same("nor is a pattern", numbers(named="0190%"), [])
    same("two conditions", numbers(outcome="blocked", until=4000.0), [3, 1])
