"""The records of the latest exchanges, in this process: for tests, for the demo, for a quick look."""

from __future__ import annotations

import json
import marshal
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from luthien_guard.delivery.redaction import Redactor
from luthien_guard.records import EventType, Form, Record

__all__ = ["Latest"]

#: seq, at, type or form, policy, packed details or values, secrets of the exchange
_Kept = tuple[int, float, EventType | Form, str | None, bytes, Sequence[str]]
_RECORD: Final = 256  # bytes of memory that one takes besides its details


class Latest:
    """Keeps the last `size` exchanges whole, of about `max_bytes`; the oldest goes first.

    Every exchange is put here and next to none is asked for: so details are packed, which also freezes them and keeps
    them from the garbage collector, and redacted when they are read.
    """

    def __init__(
        self,
        redact: Redactor | None = None,
        size: int = 1000,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`lock`: held by who puts; an application may have several event loops."""
        self._redact = redact or Redactor()
        self._size = size
        self._max = max_bytes
        self._calls: OrderedDict[str, list[_Kept]] = OrderedDict()
        self._bytes = 0
        self.taken = 0  # facts, ever
        self.lock = lock or threading.Lock()

    def put(
        self,
        call_id: str,
        seq: int,
        at: float,
        kind: EventType | Form,
        policy: str | None,
        details: dict[str, Any] | tuple[Any, ...],
        secrets: Sequence[str] = (),
    ) -> None:
        """Call it with `lock` held. `details`: of a form its values."""
        try:
            packed = marshal.dumps(details)
        except ValueError:
            packed = marshal.dumps(_plain(details))
        self._bytes += _RECORD + len(packed)
        self.taken += 1
        fact = (seq, at, kind, policy, packed, secrets)
        calls = self._calls
        if (call := calls.get(call_id)) is not None:
            call.append(fact)
        else:
            calls[call_id] = [fact]
        if self._bytes > self._max or len(calls) > self._size:
            self._forget()

    def _forget(self) -> None:
        calls = self._calls
        while len(calls) > self._size or (self._bytes > self._max and len(calls) > 1):
            for each in calls.popitem(last=False)[1]:
                self._bytes -= _RECORD + len(each[4])

    def records(self, call_id: str) -> tuple[Record, ...]:
        """Oldest fact first; empty for an exchange that is not (any more) remembered."""
        with self.lock:
            kept = tuple(self._calls.get(call_id, ()))
        return tuple(self._record(call_id, each) for each in kept)

    def calls(self) -> tuple[str, ...]:
        """Call ids, oldest first."""
        with self.lock:
            return tuple(self._calls)

    def _record(self, call_id: str, kept: _Kept) -> Record:
        seq, at, kind, policy, packed, secrets = kept
        details = marshal.loads(packed)  # noqa: S302 -- packed here
        if isinstance(kind, Form):
            details = kind.details(details)
            kind = kind.type
        return Record(call_id, seq, at, kind, policy, self._redact.details(kind, details, secrets))


def _plain(details: dict[str, Any] | tuple[Any, ...]) -> Any:
    """Of what holds something that is not plain data."""
    return json.loads(json.dumps(details, default=str, skipkeys=True))
