"""One exchange: its request under decision, its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from luthien_guard.engine.asking import Asking
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.services import RecordFunction, Services
from luthien_guard.engine.verdicts import Intervention
from luthien_guard.errors import told
from luthien_guard.events import ResponseFailed
from luthien_guard.exchange import ChatRequest, Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.hooks import HookCall
from luthien_guard.policy import Retry
from luthien_guard.records import ENDED, EventType
from luthien_guard.wire.format import Reader, WireFormat, Writer
from luthien_guard.wire.requests import same

__all__ = ["Exchange"]

if TYPE_CHECKING:
    from luthien_guard.engine.response import Response


_SUCCESS: Final = Outcome(OutcomeStatus.SUCCESS)
_FAILED: Final = frozenset({OutcomeStatus.UPSTREAM_ERROR, OutcomeStatus.POLICY_ERROR, OutcomeStatus.TIMEOUT})


class Exchange(Asking):
    """The state of one exchange on the engine's side."""

    __slots__ = (
        "_closed",
        "_told_failure",
        "begun",
        "body",
        "first_byte",
        "kept_alive",
        "outcome",
        "released_any",
        "response",
        "retries",
        "said",
    )

    def __init__(
        self,
        plan: Plan,
        services: Services,
        format: WireFormat,
        metadata: RequestMetadata,
        record: RecordFunction,
    ) -> None:
        Asking.__init__(self, plan, services, format, metadata, record)  # `super()` is another object
        self.body = b""  # as sent upstream
        self.outcome: Outcome | None = None
        self.retries = 0
        self.released_any = False  # something of an answer has left: there is no other try
        self.kept_alive = False  # the client has heard a sign of life: what it gets is a stream
        self.said: str | None = None  # what the guard told the client instead of what it blocked
        #: When something of the answer left first, on the services' clock.
        self.first_byte: float | None = None
        self.begun = services.clock()
        self.response: Response | None = None  # of the last attempt
        self._closed = False
        self._told_failure = False  # the policies know that something failed

    def reader(self, *, stream: bool) -> Reader:
        """Of an answer to the request."""
        return self.format.reader(stream=stream, choices=self.request.choices)

    def writer(self, *, stream: bool) -> Writer:
        """Of an answer to the request."""
        request = self.request
        return self.format.writer(
            stream=stream,
            model=request.model,
            call_id=self.metadata.call_id,
            choices=request.choices,
            usage=request.usage,
        )

    async def observe(self, hook: str, event: Any) -> None:
        """Call the hooks that only look on, when nothing can be done about it any more."""
        for call in self.plan.calls[hook]:
            await self.call(call, event)

    # -- the request ---------------------------------------------------------------------------------------------------

    async def decide_request(self, body: bytes) -> Intervention | None:
        """Run the request's hooks; `self.request` and `self.body` are then what goes upstream."""
        calls = self.plan.calls["on_request_started"]
        # Policies may change in place what they were shown: what came is read once more, to compare with.
        came = self.format.read_request(body) if calls else self.request
        for call in calls:
            result = await self._ask_about_request(call)
            if result is not None and not isinstance(result, (ChatRequest, Intervention)):
                result = self.nonsense(call, result, "a ChatRequest or a verdict")
            if isinstance(result, Intervention):
                return result
            failed = self._change(call, body, came, result or self.request)
            if failed is not None:
                return failed
        return await self._completed()

    async def _ask_about_request(self, call: HookCall) -> Any:
        """Members of a group change nothing, also not in place: each has a reading of its own."""
        if not call.members:
            return await self.call(call, self._shown(call, self.request))
        return await self.together(
            call,
            lambda each: self.call(each, self._shown(each, self.format.read_request(self.body))),
            self.request,
        )

    def _shown(self, call: HookCall, request: ChatRequest) -> ChatRequest:
        self.context(call).request = request
        return request

    def _change(
        self, call: HookCall, body: bytes, came: ChatRequest, request: ChatRequest
    ) -> Intervention | None:
        """Take over what the policy made of the request: as it will be read, not as it was made."""
        try:
            written = self.format.write_request(body, came, request)
            read = self.format.read_request(written) if written != self.body else self.request
        except Exception as error:  # noqa: BLE001 -- a policy may put anything there
            self.request = self.format.read_request(self.body)
            return self.nonsense(call, request, f"a request that can be sent ({told(error)})")
        if written == self.body:
            return None
        if not call.enforces:  # changed in place what it was only shown
            self.request = self.format.read_request(self.body)
            return None
        self.record(EventType.CHANGED, policy=call.registered.name, request=self._changed_keys(read))
        self.body, self.request = written, read
        return None

    def _changed_keys(self, request: ChatRequest) -> list[str]:
        before = self.format.read_request(self.body).raw
        missing = object()
        return sorted(
            key
            for key in {*before, *request.raw}
            if not same(before.get(key, missing), request.raw.get(key, missing))
        )

    async def _completed(self) -> Intervention | None:
        """The last look at what is really sent."""
        for call in self.plan.calls["on_request_completed"]:
            result = await self.call(call, self._shown(call, self.request))
            # It may have changed in place what it was shown, and what is sent is not that.
            self.request = self.format.read_request(self.body)
            if result is not None and not isinstance(result, Intervention):
                result = self.nonsense(call, result, "nothing")
            if result is not None:
                return result
        for context in self._contexts.values():
            context.request = self.request
            context.request_sent()
        return None

    async def retry(self, verdict: Retry, policy: str) -> Intervention | None:
        """Make `self.body` the request of another attempt, with the other model where the policy named one and there is a
        body to name it."""
        # those of an answer that nobody gets
        self.outcome = self.said = self.aside = None
        for context in self._contexts.values():
            context.answer_discarded()
        if self.body and verdict.model is not None and verdict.model != self.request.model:
            asked = self.format.read_request(
                self.body
            )  # policies may have changed in place what they were shown
            self.body = self.format.write_request(self.body, asked, asked.replace(model=verdict.model))
            self.request = self.format.read_request(self.body)
            self.record(EventType.CHANGED, policy=policy, request=["model"])
            self.record(EventType.REQUEST_SENT, body=self.body.decode("utf-8", "replace"))
            if (intervention := await self._completed()) is not None:
                return intervention
        self.retries += 1
        return None

    # -- the end -------------------------------------------------------------------------------------------------------

    def decide_outcome(
        self, status: OutcomeStatus, policy: str | None = None, reason: str | None = None
    ) -> None:
        """The first decision stands. Its reason is told to policies and applications, and may be what a provider said of
        a key: it holds no more secrets than its record."""
        if self.outcome is None:
            self.outcome = Outcome(status, policy, reason and self.record.redacted(reason))

    def intervened(self, intervention: Intervention) -> None:
        status = OutcomeStatus.POLICY_ERROR if intervention.failure else OutcomeStatus.BLOCKED
        self.decide_outcome(status, intervention.policy, intervention.verdict.reason)

    async def fail(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        """Tell the record, and the policies once, that something failed."""
        self.record(EventType.RESPONSE_FAILED, error=message, status=status, code=code)
        await self._tell_failure(ResponseFailed(message, status, code))

    async def _tell_failure(self, failed: ResponseFailed) -> None:
        if not self._told_failure:
            self._told_failure = True
            await self.observe("on_error", failed)

    async def _tell_end(self, outcome: Outcome) -> None:
        """A policy that does not let go is cancelled in the end; those after it hear the end all the same."""
        cancelled: BaseException | None = None
        if outcome.status in _FAILED:
            await self._tell_failure(ResponseFailed(outcome.reason or outcome.status.value))
        for call in self.plan.calls["on_exchange_closed"]:
            try:
                await self.call(call, outcome)
            except BaseException as error:  # noqa: BLE001 -- raised below
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled

    async def close(self, outcome: Outcome | None, session: str | None = None) -> Outcome:
        """Exactly once: every policy hears the end, the record gets it. `session`: the one that began with this answer."""
        if outcome is not None:
            self.decide_outcome(outcome.status, outcome.policy, outcome.reason)
        end = self.outcome = self.outcome or _SUCCESS
        if not self._closed:
            self._closed = True
            try:
                if not self.plan.ends_at_once:
                    await self._tell_end(end)
            finally:  # also when a policy that does not let go is cancelled
                self._contexts.clear()  # they know the exchange, and so does what is aside
                self.aside = None
                self._record_end(end, session)
        return end

    def _record_end(self, end: Outcome, session: str | None) -> None:
        first_byte = None if self.first_byte is None else round(self.first_byte - self.begun, 6)
        values = (
            "success" if end is _SUCCESS else end.status.value,
            end.reason,
            self.request.model,
            self.retries,
            first_byte,
            {} if self._waits is None else self._waits.spent(),
            self.format.name,
        )
        if session is None:
            self.record.put(ENDED, end.policy, values)
        else:
            self.record(EventType.CLOSED, policy=end.policy, session_id=session, **ENDED.details(values))
