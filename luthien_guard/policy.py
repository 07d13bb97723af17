"""What a policy is: configuration and hooks, one instance for the process, no state between exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

import pluggy

from luthien_guard.exchange import RequestMetadata
from luthien_guard.policy_config import check_arguments, validated

__all__ = [
    "Abort",
    "Block",
    "ErrorMode",
    "Judge",
    "Mode",
    "ObservabilityContext",
    "Policy",
    "PolicyContext",
    "Retry",
    "Verdict",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker("luthien_guard")

Mode = Literal["enforce", "shadow", "off"]
ErrorMode = Literal["block", "allow"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Block:
    """Do not let this piece through.

    A blocked request is never sent; a blocked tool call is replaced by an explanation while the rest of the answer
    goes on; blocked text ends the answer there. About anything else it means what `Abort` means. `reason` goes to the
    record, `message` to the client.
    """

    reason: str
    message: str | None = None

    def __post_init__(self) -> None:
        _spelled(self)


@dataclass(frozen=True, slots=True)
class Abort:
    """End the exchange now: upstream is closed and the answer ends well-formed. `reason` goes to the record, `message`
    to the client."""

    reason: str
    message: str | None = None

    def __post_init__(self) -> None:
        _spelled(self)


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask again, the same model or `model`. Honoured only while nothing was released yet, and `Limits.max_retries` times;
    otherwise, and about a request, it means what `Abort` means. `reason` goes to the record."""

    reason: str
    model: str | None = None

    def __post_init__(self) -> None:
        _spelled(self)
        if self.model is not None:
            self.model.encode()  # told here, where the policy makes it


def _spelled(verdict: object) -> None:
    """Whatever a policy gives as words is taken as words: a verdict must not fail because of them."""
    for name in ("reason", "message"):
        value = getattr(verdict, name, None)
        if value is not None and type(value) is not str:
            object.__setattr__(verdict, name, str(value))


Verdict: TypeAlias = Block | Abort | Retry


class Judge(Protocol):
    """Ask another model. `messages` are chat messages; the answer is the model's text. Raises on failure."""

    async def __call__(self, messages: list[dict[str, Any]], *, model: str, **params: Any) -> str: ...


class Policy:
    """Subclass, implement hooks with `@hookimpl`, keep configuration in attributes set by `__init__`.

    The instance is shared by every exchange of the process: what belongs to one exchange lives in `ctx.scratchpad`
    or `ctx.state(...)`. Attributes that hold lists, dicts or sets are refused at start; use tuples and frozensets.
    """

    #: Name in records and tables; default: the class name in kebab case, or the entry point's name.
    name: str = ""
    #: Characters of text that are held back so that `on_content_chunk` sees a window across chunk borders.
    lookahead: int = 0
    #: True when a hook asks somebody else (a judge, a person, a service): it then runs in the stream lane.
    waits: bool = False
    #: True when a hook asks `ctx.judge`: the guard's own one, litellm, is then loaded when the guard starts, which takes
    #: seconds, and not while the first question waits.
    asks_judge: bool = False
    #: True when it must see the whole conversation: a request that refers to one which the provider keeps
    #: (`request.references`) is answered with the error after which clients send it.
    needs_history: bool = False
    #: "response": nothing is released before `on_response_completed`, which may then return a verdict.
    hold: Literal["", "response"] = ""
    #: The text channels to look at; None is all of them.
    channels: frozenset[str] | None = None
    #: Seconds that one call of a hook may take; None takes the guard's default.
    timeout: float | None = None

    #: A pydantic model of the configuration; `Policy.from_config` validates with it where present. Keys that it does not
    #: know are errors, unless it says itself (`extra` in its `model_config`) what becomes of them.
    Config: ClassVar[type[Any] | None] = None

    def listens(self, hook: str) -> bool:
        """False for a hook that this instance, configured as it is, has no use for: it is then never called, and
        nothing is held for it."""
        return True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Policy:
        """Make the policy from the `config` mapping of a configuration file. Raises TypeError or ValueError."""
        if cls.Config is not None:
            return cls(**validated(cls.Config, config, cls.__name__))
        check_arguments(cls, config)
        return cls(**config)


@dataclass(frozen=True, slots=True)
class ObservabilityContext:
    """Where this exchange stands in tracing (W3C ids in hex: its own span where the guard traces, else the caller's), and
    the way into the record."""

    trace_id: str | None
    span_id: str | None
    record: Callable[..., None]


class PolicyContext:
    """One policy in one exchange. Made by the guard; policies get it as `ctx`."""

    __slots__ = (
        "_deadline",
        "_exchange",
        "_keepalive",
        "_record",
        "_states",
        "_states_of_request",
        "call_id",
        "clock",
        "judge",
        "observability",
        "policy",
        "request",
        "scratchpad",
        "wire_format",
    )

    def __init__(
        self,
        *,
        call_id: str,
        exchange: Callable[[], RequestMetadata],
        policy: str,
        wire_format: str,
        request: Any,
        record: Callable[..., None],
        clock: Callable[[], float],
        judge: Judge | None,
        observability: ObservabilityContext,
        keepalive: Callable[[], None],
        deadline: Callable[[], float],
    ) -> None:
        self.call_id = call_id
        self.policy = policy
        self.wire_format = wire_format
        self.request = request  # the ChatRequest as the policies before left it
        self.scratchpad: dict[str, Any] = {}
        self.clock = clock  # monotonic seconds; virtual in tests
        self.judge: Judge = judge if judge is not None else _no_judge
        self.observability = observability
        self._exchange = exchange
        self._record = record
        self._keepalive = keepalive
        self._deadline = deadline
        self._states: dict[Any, Any] = {}
        self._states_of_request: dict[Any, Any] = {}

    @property
    def exchange(self) -> RequestMetadata:
        """Who asks, as far as the guard knows. `api_key_hash` tells credentials apart, without telling them; `session_id` and
        `user_id` are what the client says of itself, unless the application that serves it said better."""
        return self._exchange()

    @property
    def deadline(self) -> float:
        """When the hook that runs now has to be done, on `clock`; of several that wait, the last."""
        return self._deadline()

    def state(self, of: Callable[[], T]) -> T:
        """The typed state of this policy in this exchange, made by `of()` on first use. What was first used when the
        request had gone belongs to one answer: another attempt (`Retry`) begins without it. `scratchpad` stays."""
        if of not in self._states:
            self._states[of] = of()
        found: T = self._states[of]
        return found

    def request_sent(self) -> None:
        """For the guard to say: what comes now belongs to an answer."""
        self._states_of_request = self._states.copy()

    def answer_discarded(self) -> None:
        """For the guard to say: nobody gets that answer, another attempt begins."""
        self._states = self._states_of_request.copy()

    def record(self, event: str, /, **details: Any) -> None:
        """Put a fact into the exchange's record. Never blocks, never raises. Details called `type`, `event` or `policy`
        get a `_` behind their names."""
        self._record(event, **details)

    def keepalive(self) -> None:
        """Say that the policy is still at work: its deadline starts anew."""
        self._keepalive()


async def _no_judge(messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
    raise RuntimeError("no judge was configured for this guard")
