"""The facts of one exchange, in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from luthien_guard.delivery.captured import without_split_secrets
from luthien_guard.delivery.named import PLAIN, secrets_of_request
from luthien_guard.delivery.owed import OWED
from luthien_guard.delivery.redaction import NAMED_BY_POLICIES
from luthien_guard.errors import SinkError
from luthien_guard.records import ENDED, EventType, Form

if TYPE_CHECKING:
    from luthien_guard.delivery.delivery import Delivery

__all__ = ["Recorder"]

_PREPARED: Final = frozenset({*NAMED_BY_POLICIES, EventType.RESPONSE_CHUNKS})
_NOTHING: Final[frozenset[EventType]] = frozenset()
_UNCHANGEABLE: Final = (str, int, float, bool, type(None))
_LARGEST: Final = 2**64


class Recorder:
    """Records facts: `recorder(type, policy=None, **details)`, or `put` with the values of a form. `owes` says that one of
    them must be durable before anything else happens: await `settle()`."""

    __slots__ = ("_delivery", "_owed", "_secrets", "call_id", "closed", "lost", "owes", "refused", "seq")

    def __init__(self, delivery: Delivery, call_id: str, secrets: Sequence[str] = ()) -> None:
        self._delivery = delivery
        self._secrets = secrets
        self._owed = _NOTHING
        self.call_id = call_id
        self.seq = 0
        self.closed = False
        self.lost = 0  # activities that found no place
        self.owes = False
        #: There is no room for another exchange: nothing of it is stored, and it must not happen.
        self.refused = False
        if delivery.has_takers and (journal := delivery.journal) is not None:
            self._owed = OWED[delivery.durability]
            self.refused = journal.overloaded

    def __call__(self, type: EventType, /, *, policy: str | None = None, **details: Any) -> None:
        if type in _PREPARED:
            details = self._prepared(type, details)
        delivery = self._delivery
        with delivery.in_turn:
            if self.closed:  # a policy that goes on after the end
                delivery.late()
                return
            if type is EventType.CLOSED:
                self.closed = True
                if self.lost:
                    details["lost"] = self.lost
            if delivery.put(
                self.call_id, self.seq, type, policy, details, self._secrets, stored=not self.refused
            ):
                self.seq += 1
                self.owes = self.owes or self.refused or type in self._owed
            else:
                self.lost += 1

    def put(self, form: Form, policy: str | None, values: tuple[Any, ...]) -> None:
        delivery = self._delivery
        if delivery.has_takers or self.closed or self.lost:
            self(form.type, policy=policy, **form.details(values))
            return
        with delivery.in_turn:
            self.closed = form is ENDED
            delivery.latest.put(self.call_id, self.seq, delivery.now(), form, policy, values, self._secrets)
            self.seq += 1

    def _prepared(self, type: EventType, details: dict[str, Any]) -> dict[str, Any]:
        if type is EventType.RESPONSE_CHUNKS:
            return without_split_secrets(details, self.redacted)
        return _frozen(details)

    def hide(self, request: Mapping[str, Any]) -> None:
        """No record holds the credentials that the JSON of the request names."""
        if not PLAIN.issuperset(request):
            self._secrets = (*self._secrets, *secrets_of_request(request))

    def redacted(self, text: str) -> str:
        """As it is recorded."""
        return self._delivery.redact(text, self._secrets)

    async def settle(self) -> None:
        """Wait until what is owed is durable. Raises SinkError when it cannot be made so; who is cancelled meanwhile owes
        it still."""
        if self.owes:
            self.owes = False
            if self.refused:
                raise SinkError("the record cannot be stored: too many wait already")
            try:
                await self._delivery.durable()
            except SinkError:
                raise
            except BaseException:
                self.owes = True
                raise


def _frozen(details: dict[str, Any]) -> dict[str, Any]:
    """What the policy cannot reach any more: a copy, where something in it can be changed."""
    if all(type(value) in _UNCHANGEABLE for value in details.values()) and not _too_long(details):
        return details
    copy: dict[str, Any] = json.loads(json.dumps(details, default=str, skipkeys=True))
    return copy


def _too_long(details: dict[str, Any]) -> bool:
    """Holds a number that cannot be written in decimal: the copy fails on it, and not whoever reads it later."""
    return any(type(value) is int and abs(value) > _LARGEST for value in details.values())
