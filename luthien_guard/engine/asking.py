"""How a hook is called: its context, its deadline, what its result and its failure mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from types import CoroutineType
from typing import Any, Final

from luthien_guard.cancellation import is_a_hooks_own
from luthien_guard.clock import OutOfTime
from luthien_guard.engine.aside import Aside
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.services import UNSAID, RecordFunction, Services
from luthien_guard.engine.suspension import rest
from luthien_guard.engine.verdicts import Intervention
from luthien_guard.engine.waits import Waits
from luthien_guard.errors import PolicyError, PolicyTimeout, told
from luthien_guard.events import (
    Chunk,
    ContentChunk,
    ContentCompleted,
    ToolCall,
    ToolCallChunk,
    UnknownChunk,
)
from luthien_guard.exchange import ChatRequest, RequestMetadata
from luthien_guard.hooks import HookCall
from luthien_guard.policy import Abort, Block, ObservabilityContext, PolicyContext, Retry
from luthien_guard.records import EventType
from luthien_guard.wire.format import WireFormat

__all__ = ["Asking", "concerned"]

#: What `record` calls its own arguments.
_RESERVED: Final = frozenset({"type", "policy", "event"})
#: The words of an event, and the events that a hook may return.
_SAID: Final = ("text", "name", "arguments")
_SAYING: Final = (ContentChunk, ContentCompleted, ToolCall, ToolCallChunk)
#: The request before anybody has read it. One for all exchanges, and shown to no policy.
_UNREAD: Final = ChatRequest("", {})


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


def _wrong_in(result: Any) -> str | None:
    """What is wrong with a result that has the right name: a class, or an event with something else than words."""
    if isinstance(result, type):
        return f"the class {result.__name__}, not what a call of it makes"
    for each in result if isinstance(result, list) else [result]:
        for name in _SAID if isinstance(each, _SAYING) else ():
            if not isinstance(said := getattr(each, name, ""), str):
                return f"{type(each).__name__} whose `{name}` is {type(said).__name__}, not str"
    return None


class Asking:
    """The policies of one exchange, as far as they are asked."""

    __slots__ = (
        "_contexts",
        "_waits",
        "aside",
        "changed_by",
        "format",
        "metadata",
        "plan",
        "record",
        "request",
        "services",
        "session",
        "user",
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
        self.request = _UNREAD
        self.session: str | None = None
        self.user: str | None = None
        self.changed_by: HookCall | None = None  # who last changed something of the answer
        self.aside: Aside | None = None  # of the answer at hand, made when somebody is to be asked aside
        self._contexts: dict[int, PolicyContext] = {}
        self._waits: Waits | None = None

    def context(self, call: HookCall) -> PolicyContext:
        """The context of the call's policy, made on first use."""
        found = self._contexts.get(call.position)
        if found is None:
            record = partial(self.note, call.registered.name)
            found = self._contexts[call.position] = PolicyContext(
                call_id=self.metadata.call_id,
                exchange=self._asked_by,
                policy=call.registered.name,
                wire_format=self.format.name,
                request=self.request,
                record=record,
                clock=self.services.clock,
                judge=self.services.judge,
                observability=ObservabilityContext(*self._traced_as(), record),
                keepalive=lambda: self._keepalive(call.position),
                deadline=lambda: self._deadline(call),
            )
        return found

    def _traced_as(self) -> tuple[str | None, str | None]:
        """The exchange's own span, or the one that the caller named."""
        metadata, span_of = self.metadata, self.services.span_of
        if span_of is not None and (own := span_of(metadata.call_id)) is not None:
            return own
        named = metadata.traceparent
        return (None, None) if named is None else (metadata.trace_id, named.split("-")[2])

    def _asked_by(self) -> RequestMetadata:
        """For policies, with what the request itself says of its session and user, and without the caller's keys."""
        return replace(self.metadata, session_id=self.session, user_id=self.user, secrets=())

    async def call(self, call: HookCall, event: Any) -> Any:
        """What the hook says about `event`: its result, or an Intervention when it failed and blocks on errors. A policy
        in shadow says nothing."""
        if call.members:
            return await self.together(call, lambda each: self.call(each, event), event)
        said = self.ask(call, event)
        return await said if type(said) is CoroutineType else said

    async def together(
        self, group: HookCall, ask: Callable[[HookCall], Awaitable[Any]], event: Any
    ) -> Intervention | None:
        """The members of a group at once: what the first says of those that object."""
        results = await self.services.at_once([partial(ask, each) for each in group.members])
        said = [self._say(each, result, event) for each, result in zip(group.members, results, strict=True)]
        return next((each for each in said if each is not None), None)

    def _say(self, call: HookCall, result: Any, event: Any) -> Intervention | None:
        if result is None or isinstance(result, Intervention):
            return result
        if result is UNSAID:
            error = PolicyError("its task was cancelled", policy=call.registered.name, hook=call.hook)
            return self._failed(call, error, event)
        return self.nonsense(call, result, "a verdict: policies of a group change nothing", event)

    def ask(self, call: HookCall, event: Any, *, aside: bool = True) -> Any:
        """`call` without a step of its own, for every token: a coroutine only where the hook waits for somebody. Unless
        `aside` is False, who only looks on and may wait is asked later.

        Here and in `_said`, nowhere else, a policy's exceptions are caught.
        """
        if call.aside and aside:
            return self._put_aside(call, event)
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
                    return self._said(call, event, rest(result, first), watched=True)
            elif call.is_async or hasattr(result, "__await__"):
                return self._said(call, event, result)
        except BaseException as error:
            if not is_a_hooks_own(error):
                raise
            return self._failed(call, error, event)
        return None if result is None else self._taken(call, event, result)

    async def _said(
        self, call: HookCall, event: Any, awaitable: Awaitable[Any], *, watched: bool = False
    ) -> Any:
        """A policy that waits, or whose failure is forgiven, gets a time-out of its own; others are watched from outside
        (`overdue`), because a time-out for every chunk costs more than the chunk."""
        if self._waits is None:
            self._waits = Waits(self.services.clock)
        waits, seconds = self._waits, self._seconds(call)
        wait = waits.begin(call, seconds)
        try:
            if watched:
                result = await awaitable
            else:
                result = await self.services.within(awaitable, wait)
            # It took its time with the processor, or a cancellation for its own.
            if self.services.clock() >= wait.deadline:
                raise OutOfTime
        except OutOfTime:
            late = f"no answer in {seconds:g} s"
            return self._failed(call, PolicyTimeout(late, policy=call.registered.name, hook=call.hook), event)
        except BaseException as error:
            if not is_a_hooks_own(error):
                raise
            return self._failed(call, error, event)
        finally:
            waits.end(wait)
        return self._taken(call, event, result)

    def _put_aside(self, call: HookCall, event: Any) -> None:
        if self.aside is None:
            services = self.services
            self.aside = Aside(
                services.limits.max_held_bytes, self._ask_aside, services.at_once, self._lost_aside
            )
        self.aside.put(call, event)

    async def _ask_aside(self, call: HookCall, event: Any) -> None:
        said = self.ask(call, event, aside=False)
        if type(said) is CoroutineType:
            await said

    def _lost_aside(self, call: HookCall, event: Any) -> None:
        behind = f"more than {self.services.limits.max_held_bytes} bytes behind: asked no more of this answer"
        self._failed(call, PolicyError(behind, policy=call.registered.name, hook=call.hook), event)

    def _taken(self, call: HookCall, event: Any, result: Any) -> Any:
        if isinstance(result, (Block, Abort, Retry)):
            return self.verdict(call, result, event)
        if type(result) is CoroutineType:  # forgotten; nobody may take it for one that is still to be awaited
            result.close()
            return self.nonsense(call, result, "what it comes to", event)
        return result if call.enforces else None

    def _seconds(self, call: HookCall) -> float:
        return call.registered.timeout or self.services.limits.hook_timeout

    def _keepalive(self, position: int) -> None:
        if self._waits is not None:
            self._waits.keepalive(position, self._seconds)

    def _deadline(self, call: HookCall) -> float:
        """Of what the policy of `call` waits for; before it does, its time has only begun."""
        waiting = None if self._waits is None else self._waits.deadline(call.position)
        return self.services.clock() + self._seconds(call) if waiting is None else waiting

    def overdue(self) -> HookCall | None:
        """The call that has run past its deadline, if one has."""
        return None if self._waits is None else self._waits.overdue()

    def _failed(self, call: HookCall, error: BaseException, event: Any) -> Intervention | None:
        """Law 7: fail closed, unless the deployer forgave this policy."""
        name = call.registered.name
        reason = told(error)
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
        said = f"returned {_wrong_in(result) or f'{type(result).__name__}, not {wanted}'}"
        error = PolicyError(said, policy=call.registered.name, hook=call.hook)
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

    def note(self, policy: str | None, event: str, /, **details: Any) -> None:
        """A fact of a policy's own, or the shell's: it never fails, whatever it is called and holds."""
        for taken in _RESERVED & details.keys():
            details[f"{taken}_"] = details.pop(taken)
        try:
            self.record(EventType.POLICY_RECORD, policy=policy, event=event, **details)
        except Exception as error:  # noqa: BLE001 -- values that are no data, or that fail when they are looked at
            self.record(
                EventType.POLICY_RECORD, policy=policy, event=event, unrecordable=type(error).__name__
            )
