"""One exchange: its policies' contexts, the way every hook is called, the request's side, the outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from luthien_guard.cancellation import must_travel
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.suspension import Later, Rest
from luthien_guard.engine.verdicts import Intervention, VerdictCache
from luthien_guard.errors import PolicyError, PolicyTimeout
from luthien_guard.events import (
    Chunk,
    ContentChunk,
    ContentCompleted,
    ResponseFailed,
    ToolCall,
    ToolCallChunk,
    UnknownChunk,
)
from luthien_guard.exchange import ChatRequest, Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.limits import Limits
from luthien_guard.policy import Abort, Block, Judge, ObservabilityContext, PolicyContext, Retry
from luthien_guard.records import EventType
from luthien_guard.registry import HookCall
from luthien_guard.wire.format import WireFormat

__all__ = ["Exchange", "RecordFunction", "Services"]

if TYPE_CHECKING:
    from luthien_guard.engine.response import Response

Deadline = Callable[[Awaitable[Any], float], Awaitable[Any]]


class RecordFunction(Protocol):
    """Records facts of one exchange. `owes`: something of it has to be durable before it may have an effect."""

    owes: bool

    def __call__(self, type: EventType, /, *, policy: str | None = None, **details: Any) -> None: ...

    async def settle(self) -> None:
        """Wait until it is. Raises SinkError."""
        ...


#: A hook that found nothing to say.
NOTHING: Final = None


@dataclass(slots=True)
class Services:
    """What the engine is given: everything that touches the world."""

    clock: Callable[[], float]
    within: Deadline  # await something, at most so many seconds; raises TimeoutError
    judge: Judge | None = None
    limits: Limits = field(default_factory=Limits)
    on_block: str = "refuse"
    unknown: str = "allow"  # or "block": chunks of kinds that the format does not know
    cache: VerdictCache = field(default_factory=VerdictCache)
    keeps_content: bool = False  # a store wants every response, also those that no policy looks at
    on_unrecorded: str = "block"  # or "allow": what happens when a decision cannot be made durable


def concerned(event: Any) -> dict[str, Any]:
    """What of the exchange an event is, for the record; its text is in the record of the response."""
    if isinstance(event, (ToolCall, ToolCallChunk)):
        return {"tool_call": event.id, "tool": event.name, "choice": event.choice}
    if isinstance(event, (ContentChunk, ContentCompleted)):
        return {"channel": event.channel, "choice": event.choice, "index": event.index}
    if isinstance(event, (Chunk, UnknownChunk)):
        chunk = event if isinstance(event, Chunk) else event.chunk
        return {"chunk": chunk.event or chunk.kind}
    return {}


class Exchange:
    """The state of one exchange on the engine's side."""

    __slots__ = (
        "_closed",
        "_contexts",
        "_running",
        "begun",
        "body",
        "first_byte",
        "format",
        "metadata",
        "outcome",
        "plan",
        "record",
        "released_any",
        "request",
        "response",
        "retries",
        "said",
        "services",
        "session",
        "spent",
    )

    def __init__(
        self,
        plan: Plan,
        services: Services,
        format: WireFormat,
        metadata: RequestMetadata,
        record: RecordFunction,
    ) -> None:
        self.plan = plan
        self.services = services
        self.format = format
        self.metadata = metadata
        self.record = record
        self.request = ChatRequest(format.name, {})
        self.body = b""  # as sent upstream
        self.outcome: Outcome | None = None
        self.session: str | None = None
        self.retries = 0
        self.released_any = False
        self.said: str | None = None  # what the guard told the client instead of what it blocked
        self.first_byte: float | None = (
            None  # when something of the answer left first, on the services' clock
        )
        self.spent: dict[str, dict[str, float]] = {}  # seconds that hooks waited, by policy and hook
        self.begun = services.clock()
        self.response: Response | None = None  # of the last attempt
        self._contexts: dict[int, PolicyContext] = {}
        self._running: dict[object, tuple[HookCall, float]] = {}
        self._closed = False

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def context(self, call: HookCall) -> PolicyContext:
        """The context of the call's policy, made on first use."""
        found = self._contexts.get(call.position)
        if found is None:
            found = self._contexts[call.position] = PolicyContext(
                call_id=self.metadata.call_id,
                policy=call.registered.name,
                wire_format=self.format.name,
                request=self.request,
                record=self._policy_record,
                clock=self.services.clock,
                judge=self.services.judge,
                observability=ObservabilityContext(self.metadata.trace_id, None, self._policy_record),
                keepalive=lambda: self._keepalive(call.position),
            )
        return found

    async def call(self, call: HookCall, event: Any) -> Any:
        """What the hook says about `event`: its result, or an Intervention when it failed and blocks on errors. A policy
        in shadow says nothing."""
        said = self.ask(call, event)
        return await said if type(said) is Later else said

    def ask(self, call: HookCall, event: Any) -> Any:
        """`call` without a step of its own, for every token: `Later` only where the hook waits for somebody.

        Here and in `_said`, nowhere else, a policy's exceptions are caught.
        """
        try:
            result = call.function(event, self._contexts.get(call.position) or self.context(call))
            if result is None:
                return None
            if call.is_async and not call.timed:
                try:
                    first = result.send(None)  # a hook that never waits needs no deadline
                except StopIteration as stop:
                    result = stop.value
                else:
                    return Later(self._said(call, event, self._watched(call, result, first)))
            elif call.is_async or hasattr(result, "__await__"):
                return Later(self._said(call, event, self._timed(call, result)))
        except BaseException as error:
            if must_travel(error):
                raise
            return self._failed(call, error, event)
        return None if result is None else self._taken(call, event, result)

    async def _said(self, call: HookCall, event: Any, awaitable: Awaitable[Any]) -> Any:
        try:
            result = await awaitable
        except BaseException as error:
            if must_travel(error):
                raise
            return self._failed(call, error, event)
        return self._taken(call, event, result)

    def _taken(self, call: HookCall, event: Any, result: Any) -> Any:
        if isinstance(result, (Block, Abort, Retry)):
            return self.verdict(call, result, event)
        return result if call.enforces else None

    async def _watched(self, call: HookCall, awaitable: Any, first: Any) -> Any:
        """A policy that waits, or whose failure is forgiven, gets a scope of its own; others are watched from
        outside (`overdue`), because a scope per chunk costs more than the chunk."""
        key = object()
        context = self.context(call)
        begun = self.services.clock()
        context.deadline = begun + self._seconds(call)
        self._running[key] = (call, context.deadline)
        try:
            return await Rest(awaitable, first)
        finally:
            self._running.pop(key, None)
            self._waited(call, begun)

    async def _timed(self, call: HookCall, awaitable: Any) -> Any:
        seconds = self._seconds(call)
        begun = self.services.clock()
        self.context(call).deadline = begun + seconds
        try:
            return await self.services.within(awaitable, seconds)
        except TimeoutError:
            message = f"no answer in {seconds:g} s"
            raise PolicyTimeout(message, policy=call.registered.name, hook=call.hook) from None
        finally:
            self._waited(call, begun)

    def _waited(self, call: HookCall, begun: float) -> None:
        spent = self.spent.setdefault(call.registered.name, {})
        spent[call.hook] = spent.get(call.hook, 0.0) + self.services.clock() - begun

    def _seconds(self, call: HookCall) -> float:
        return call.registered.timeout or self.services.limits.hook_timeout

    def _keepalive(self, position: int) -> None:
        now = self.services.clock()
        for key, (call, _) in list(self._running.items()):
            if call.position == position:
                self._running[key] = (call, now + self._seconds(call))

    def overdue(self) -> HookCall | None:
        """The call that has run past its deadline, if one has."""
        if not self._running:
            return None
        now = self.services.clock()
        return next((call for call, deadline in self._running.values() if now >= deadline), None)

    def _failed(self, call: HookCall, error: BaseException, event: Any) -> Intervention | None:
        """Law 7: fail closed, unless the deployer forgave this policy."""
        name = call.registered.name
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        enforced = call.registered.on_error != "allow" and call.enforces
        about = concerned(event)
        self.record(
            EventType.POLICY_ERROR, policy=name, hook=call.hook, error=reason, enforced=enforced, **about
        )
        if not enforced:
            return None
        return Intervention(name, Abort(f"{call.hook} failed: {reason}"), failure=True)

    def nonsense(self, call: HookCall, result: Any, wanted: str, event: Any = None) -> Intervention | None:
        """The hook returned something that it may not: a failure like any other."""
        error = PolicyError(
            f"returned {type(result).__name__}, not {wanted}", policy=call.registered.name, hook=call.hook
        )
        return self._failed(call, error, event)

    def verdict(
        self, call: HookCall, verdict: Block | Abort | Retry, event: Any = None
    ) -> Intervention | None:
        """Record a verdict and the piece that it concerned; None for one that only a shadow spoke."""
        enforced = call.enforces
        self.record(
            EventType.VERDICT,
            policy=call.registered.name,
            hook=call.hook,
            verdict=type(verdict).__name__.lower(),
            reason=verdict.reason,
            enforced=enforced,
            **concerned(event),
        )
        return Intervention(call.registered.name, verdict) if enforced else None

    def _policy_record(self, event: str, /, *, policy: str | None = None, **details: Any) -> None:
        self.record(EventType.POLICY_RECORD, policy=policy, event=event, **details)

    async def observe(self, hook: str, event: Any) -> None:
        """Call the hooks that only look on, when nothing can be done about it any more."""
        for call in self.plan.calls[hook]:
            await self.call(call, event)

    # -- the request ---------------------------------------------------------------------------------------------------

    async def decide_request(self, body: bytes, request: ChatRequest) -> Intervention | None:
        """Run the request's hooks; `self.request` and `self.body` are then what goes upstream."""
        self.request = request
        for call in self.plan.calls["on_request_started"]:
            self.context(call).request = self.request
            result = await self.call(call, self.request)
            if isinstance(result, ChatRequest):
                self._change(call, result)
            elif isinstance(result, Intervention):
                return result
            elif result is not None and (failed := self.nonsense(call, result, "a ChatRequest or a verdict")):
                return failed
        for context in self._contexts.values():
            context.request = self.request
        self.body = self.format.write_request(body, request, self.request)
        for call in self.plan.calls["on_request_completed"]:
            result = await self.call(call, self.request)
            if result is not None and not isinstance(result, Intervention):
                result = self.nonsense(call, result, "nothing")
            if result is not None:
                return result
        return None

    def _change(self, call: HookCall, request: ChatRequest) -> None:
        changed = sorted(
            key
            for key in {*request.raw, *self.request.raw}
            if request.raw.get(key, NOTHING) != self.request.raw.get(key, NOTHING)
        )
        if changed:
            self.record(EventType.CHANGED, policy=call.registered.name, request=changed)
            self.request = request

    def retry_body(self, verdict: Retry, policy: str) -> bytes:
        """The request once more, with the other model where the policy named one."""
        if verdict.model is not None and verdict.model != self.request.model:
            changed = self.request.replace(model=verdict.model)
            self.body = self.format.write_request(self.body, self.request, changed)
            self.request = changed
            self.record(EventType.CHANGED, policy=policy, request=["model"])
            self.record(EventType.REQUEST_SENT, body=self.body.decode("utf-8", "replace"))
        self.retries += 1
        return self.body

    # -- the end -------------------------------------------------------------------------------------------------------

    def decide_outcome(
        self, status: OutcomeStatus, policy: str | None = None, reason: str | None = None
    ) -> None:
        """The first decision stands."""
        if self.outcome is None:
            self.outcome = Outcome(status, policy, reason)

    def intervened(self, intervention: Intervention) -> None:
        status = OutcomeStatus.POLICY_ERROR if intervention.failure else OutcomeStatus.BLOCKED
        self.decide_outcome(status, intervention.policy, intervention.verdict.reason)

    async def fail(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        """Tell the policies and the record that something failed."""
        self.record(EventType.RESPONSE_FAILED, error=message, status=status, code=code)
        await self.observe("on_error", ResponseFailed(message, status, code))

    async def _tell_end(self, outcome: Outcome) -> None:
        """A policy that does not let go is cancelled in the end; those after it hear the end all the same."""
        cancelled: BaseException | None = None
        for call in self.plan.calls["on_exchange_closed"]:
            try:
                await self.call(call, outcome)
            except BaseException as error:  # noqa: BLE001 -- raised below
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled

    async def close(self, outcome: Outcome | None, details: Mapping[str, Any]) -> Outcome:
        """Exactly once: every policy hears the end, the record gets it."""
        if self.outcome is None:
            self.outcome = outcome or Outcome(OutcomeStatus.SUCCESS)
        if not self._closed:
            self._closed = True
            try:
                await self._tell_end(self.outcome)
            finally:  # also when a policy that does not let go is cancelled
                self.record(
                    EventType.CLOSED,
                    policy=self.outcome.policy,
                    outcome=self.outcome.status.value,
                    reason=self.outcome.reason,
                    model=self.request.model,
                    retries=self.retries,
                    first_byte=None if self.first_byte is None else round(self.first_byte - self.begun, 6),
                    hooks={
                        name: {hook: round(seconds, 6) for hook, seconds in spent.items()}
                        for name, spent in self.spent.items()
                    },
                    **details,
                )
        return self.outcome
