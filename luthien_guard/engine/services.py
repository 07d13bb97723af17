"""What the engine is given: everything that touches the world, and where its facts go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from luthien_guard.engine.verdicts import VerdictCache
from luthien_guard.engine.waits import Wait
from luthien_guard.limits import Limits
from luthien_guard.policy import Judge
from luthien_guard.records import EventType, Form

__all__ = ["UNSAID", "AtOnce", "RecordFunction", "Services"]

#: What those came to whose task somebody cancelled.
UNSAID: Final = object()
AtOnce: TypeAlias = Callable[[Sequence[Callable[[], Awaitable[Any]]]], Awaitable[list[Any]]]


class RecordFunction(Protocol):
    """Records facts of one exchange. `owes`: something of it has to be durable before it may have an effect."""

    owes: bool

    def __call__(self, type: EventType, /, *, policy: str | None = None, **details: Any) -> None: ...

    def put(self, form: Form, policy: str | None, values: tuple[Any, ...]) -> None:
        """The same for what every exchange records: the values of its details alone."""
        ...

    def hide(self, request: Mapping[str, Any]) -> None:
        """From now on, the credentials that the JSON of the request names."""
        ...

    async def settle(self) -> None:
        """Wait until it is. Raises SinkError."""
        ...

    def redacted(self, text: str) -> str:
        """As it would be recorded: before a text is cut, which may leave a part of a secret that nobody recognises."""
        ...


@dataclass(slots=True)
class Services:
    """One for all exchanges of a guard."""

    clock: Callable[[], float]
    #: Awaits something until the deadline of the wait, wherever that moves. Raises OutOfTime.
    within: Callable[[Awaitable[Any], Wait], Awaitable[Any]]
    #: Does several things at once; what each came to, or UNSAID, in their order.
    at_once: AtOnce
    judge: Judge | None = None
    #: (trace id, span id) of an exchange, in hex; None where nobody traces it.
    span_of: Callable[[str], tuple[str, str] | None] | None = None
    limits: Limits = field(default_factory=Limits)
    on_block: str = "refuse"
    unknown: str = "allow"  # or "block": chunks of kinds that the format does not know
    cache: VerdictCache = field(default_factory=VerdictCache)
    keeps_content: bool = False  # a store wants every response, also those that no policy looks at
    on_unrecorded: str = "block"  # or "allow": what happens when a decision cannot be made durable
