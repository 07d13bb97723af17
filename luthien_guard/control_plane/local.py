"""The control plane in this process: which exchanges are open, and what becomes of their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luthien_guard.control_plane.answers import UNRECORDED, error_answer, refusal, unrecorded
from luthien_guard.control_plane.service import (
    Answer,
    GuardedStream,
    PolicyResult,
    RequestDecision,
    StreamingContext,
)
from luthien_guard.control_plane.stream import LocalStream
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.services import RecordFunction, Services
from luthien_guard.engine.verdicts import Intervention, message_for
from luthien_guard.errors import AnswerFromMiddle, ConfigError, HistoryKept, WireError
from luthien_guard.exchange import ChatRequest, Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.identity import SESSION_FROM, Sessions, SessionSource, Threads, user_of
from luthien_guard.records import RECEIVED, EventType
from luthien_guard.wire.format import WireFormat

__all__ = ["LocalControlPlane"]


class LocalControlPlane:
    """Implements `ControlPlaneService` over the engine. One per guard."""

    def __init__(
        self,
        plan: Callable[[RequestMetadata], Plan],
        services: Services,
        formats: Mapping[str, WireFormat],
        recorder: Callable[..., RecordFunction],
        sessions: Sequence[SessionSource] = SESSION_FROM,
        streams: Callable[[Exchange, StreamingContext], GuardedStream] | None = None,
    ) -> None:
        self._plan = plan
        self._services = services
        self._formats = formats
        self._recorder = recorder
        self._sessions = Sessions(sessions)
        self._threads = Threads()
        self._streams = streams or LocalStream
        self._exchanges: dict[str, Exchange] = {}

    async def decide_request(
        self, metadata: RequestMetadata, wire_format: str, body: bytes
    ) -> PolicyResult[RequestDecision]:
        try:
            plan = self._plan(metadata)
        except ConfigError as error:
            answer = self.reject(metadata, wire_format, 503, "no_policies", str(error))
            return PolicyResult(RequestDecision(body, answer), allowed=False, reason=str(error))
        exchange = self._open(metadata, wire_format, plan)
        result = self._read(exchange, body)
        if result is None and body and plan.looks_at_request:
            result = await self._asked(exchange, body)
        if result is None:
            result = self._admitted(exchange)
        if exchange.record.owes and (problem := await unrecorded(exchange)) is not None:
            return PolicyResult(RequestDecision(body, problem), allowed=False, reason=UNRECORDED)
        return result

    def _read(self, exchange: Exchange, body: bytes) -> PolicyResult[RequestDecision] | None:
        """The request is on record, and refused where no policy could be asked about it."""
        format, plan = exchange.format, exchange.plan
        exchange.body = body
        try:
            # a retrieval (GET) has no body; whatever comes back is policed all the same
            exchange.request = format.read_request(body) if body else ChatRequest(format.name, {})
        except WireError as error:
            exchange.request = ChatRequest(format.name, {})
            self._received(exchange, body)
            return _rejected(exchange, body, error)
        self._received(exchange, body)
        if (name := plan.needs_history) is not None and (kept := exchange.request.references):
            return _rejected(exchange, body, HistoryKept(kept), policy=name)
        # what was cut off would be missing in what policies judge
        if not body and plan.enforces and exchange.metadata.resumes:
            return _rejected(exchange, body, AnswerFromMiddle())
        return None

    async def _asked(self, exchange: Exchange, body: bytes) -> PolicyResult[RequestDecision] | None:
        """What policies answer in the application's place."""
        stream = exchange.request.stream
        intervention = await exchange.decide_request(body)
        if intervention is not None:
            return self._refused(exchange, intervention, stream=stream)
        if exchange.body != body:
            exchange.record(EventType.REQUEST_SENT, body=exchange.body.decode("utf-8", "replace"))
        return None

    def _admitted(self, exchange: Exchange) -> PolicyResult[RequestDecision]:
        plan, request = exchange.plan, exchange.request
        decision = RequestDecision(
            exchange.body,
            None,
            request.model,
            request.stream,
            plan.looks_at_response or self._services.keeps_content,
            plan.enforces,
            plan.ends_at_once,
        )
        return PolicyResult(decision)

    def _open(self, metadata: RequestMetadata, wire_format: str, plan: Plan) -> Exchange:
        exchange = Exchange(
            plan,
            self._services,
            self._formats[wire_format],
            metadata,
            self._recorder(metadata.call_id, metadata.secrets),
        )
        self._exchanges[metadata.call_id] = exchange
        return exchange

    def _received(self, exchange: Exchange, body: bytes | None) -> None:
        metadata, request, record = exchange.metadata, exchange.request, exchange.record
        if (session := metadata.session_id or self._sessions.of(request)) is not None:
            exchange.session = self._threads.of(session)
        exchange.user = metadata.user_id or user_of(request)
        record.hide(request.raw)
        record.put(
            RECEIVED,
            None,
            (
                exchange.format.name,
                metadata.endpoint,
                request.model,
                request.stream,
                exchange.session,
                exchange.user,
                metadata.api_key_hash,
                metadata.trace_id,
                metadata.traceparent,
                exchange.plan.version,
                None if body is None else body.decode("utf-8", "replace"),
            ),
        )

    def _refused(
        self, exchange: Exchange, intervention: Intervention, *, stream: bool
    ) -> PolicyResult[RequestDecision]:
        exchange.intervened(intervention)
        exchange.said = message_for(intervention)
        answer = refusal(exchange, exchange.said, None, stream=stream)
        return PolicyResult(
            RequestDecision(exchange.body, answer, exchange.request.model, stream),
            allowed=False,
            reason=intervention.verdict.reason,
            metadata={"policy": intervention.policy},
        )

    async def open_stream(self, context: StreamingContext) -> GuardedStream:
        exchange = self._exchanges[context.call_id]
        exchange.record(
            EventType.RESPONSE_STARTED, status=context.status, stream=context.stream, attempt=context.attempt
        )
        return self._streams(exchange, context)

    async def close(self, call_id: str, outcome: Outcome | None = None) -> Outcome:
        exchange = self._exchanges.pop(call_id, None)
        if exchange is None:
            return outcome or Outcome(OutcomeStatus.SUCCESS)
        session: str | None = None
        if (response := exchange.response) is not None:
            response.recorded()
            session = self._session_of(exchange, response.state.reader.id)
            exchange.response = (
                None  # it knows the exchange: what is over must not wait for a garbage collection
            )
        return await exchange.close(outcome, session)

    def _session_of(self, exchange: Exchange, response_id: str | None) -> str | None:
        """The id of a response is the session of those that go on from it, and of the first itself: that of an exchange
        which had none."""
        if not (
            self._sessions.follow_responses and response_id and exchange.format.name == "openai.responses"
        ):
            return None
        session = self._threads.answered(response_id, exchange.session)
        return session if exchange.session is None else None

    def record(self, call_id: str, event: str, details: Mapping[str, Any]) -> None:
        exchange = self._exchanges.get(call_id)
        if exchange is not None:
            exchange.note(None, event, **details)

    def publish(self, call_id: str, activity: Mapping[str, Any]) -> None:
        exchange = self._exchanges.get(call_id)
        if exchange is not None:
            exchange.record(EventType.ACTIVITY, **activity)

    def reject(
        self, metadata: RequestMetadata, wire_format: str, status: int, code: str, message: str
    ) -> Answer:
        """A request that the shell refused never opens an exchange: its record is these two facts."""
        try:
            plan = self._plan(metadata)
        except ConfigError:  # its policies are gone; what happened is on record all the same
            plan = Plan()
        exchange = self._open(metadata, wire_format, plan)
        del self._exchanges[metadata.call_id]
        exchange.request = ChatRequest(wire_format, {})
        self._received(exchange, None)
        exchange.record(EventType.REQUEST_REJECTED, status=status, code=code, reason=message)
        exchange.record(
            EventType.CLOSED, outcome=OutcomeStatus.BLOCKED.value, reason=message, wire_format=wire_format
        )
        return error_answer(exchange.format, status, code, message)


def _rejected(
    exchange: Exchange, body: bytes, error: WireError, policy: str | None = None
) -> PolicyResult[RequestDecision]:
    """`policy`: on whose behalf."""
    reason = str(error)
    exchange.record(
        EventType.REQUEST_REJECTED, policy=policy, status=error.status, code=error.code, reason=reason
    )
    exchange.decide_outcome(OutcomeStatus.BLOCKED, policy, reason)
    answer = error_answer(exchange.format, error.status, error.code, reason)
    return PolicyResult(RequestDecision(body, answer), allowed=False, reason=reason)
