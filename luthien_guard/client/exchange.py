"""One guarded call: decide the request, ask litellm, put what it says through the guard, close exactly once."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import anyio

from luthien_guard.callers import Callers
from luthien_guard.cancellation import must_travel
from luthien_guard.client.arguments import Arguments
from luthien_guard.client.dialects import Dialect
from luthien_guard.client.litellm_api import PROVIDER, litellm, violation_type
from luthien_guard.clock import MonotonicClock, clock_from
from luthien_guard.control_plane.service import (
    Answer,
    ControlPlaneService,
    GuardedStream,
    StreamingContext,
)
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata, new_call_id
from luthien_guard.limits import Limits

__all__ = ["CLOSED_EARLY", "ClientExchange", "ClientGuard", "error_message"]

T = TypeVar("T")

_BLOCKED: Final = (OutcomeStatus.BLOCKED, OutcomeStatus.POLICY_ERROR)
CLOSED_EARLY: Final = Outcome(OutcomeStatus.CANCELLED, reason="closed by the caller")


class ClientGuard(Protocol):
    """As much of a `Guard` as the client uses."""

    @property
    def on_block(self) -> str: ...
    @property
    def plane(self) -> ControlPlaneService: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def callers(self) -> Callers: ...
    async def start(self) -> None: ...


class ClientExchange:
    """From the first decision to the close. `raises`: a block is an exception for this caller."""

    def __init__(self, guard: ClientGuard, dialect: Dialect, arguments: Arguments, *, raises: bool) -> None:
        self.guard = guard
        self.dialect = dialect
        self.arguments = arguments
        self.raises = raises
        self.call_id = new_call_id()
        self.clock = clock_from(guard.clock)
        self.real_time = isinstance(self.clock, MonotonicClock)
        self.body = arguments.body
        self.covered = True  # False: no policy looks at the response
        self.attempts = 0
        self.stream: GuardedStream | None = None
        self.closed = False
        self._ends = self.clock() + guard.limits.total_timeout

    def patience(self) -> float:
        """Seconds for which upstream's next chunk may be waited for."""
        return min(self._ends - self.clock(), self.guard.limits.idle_timeout)

    async def silent(self) -> Exception:
        """What to raise when that moment has come."""
        if self.clock() >= self._ends:
            return await self.late("the answer took longer than the total time-out")
        return await self.late(
            f"upstream was silent for {self.guard.limits.idle_timeout:g} seconds", "idle_timeout"
        )

    @property
    def wants_usage(self) -> bool:
        """Chunks of usage alone are for callers who asked for them."""
        options = self.arguments.request.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def streamed(self) -> bool:
        return self.arguments.streamed

    @property
    def model(self) -> str:
        return str(self.arguments.request.get("model", ""))

    # -- the request ---------------------------------------------------------------------------------------------------

    async def decide(self) -> Answer | None:
        """Run the request's hooks: None to go on, or what to answer without asking anybody. Raises litellm's
        BadRequestError for a request that no policy could read."""
        await self.guard.start()
        result = await self._in_time(
            self.guard.plane.decide_request(self._metadata(), self.dialect.wire_format, self.body),
            "the request's policies",
        )
        decision = result.value
        self.body, self.covered = decision.body, decision.covers_response
        if decision.answer is None or decision.answer.status == 200:
            return decision.answer
        if result.metadata.get("policy") is None and not result.allowed:
            await self.close()
            raise litellm().BadRequestError(result.reason or "malformed request", self.model, PROVIDER)
        return decision.answer

    def _metadata(self) -> RequestMetadata:
        key = self.arguments.key
        return RequestMetadata(
            self.call_id,
            time.time(),
            user_id=_text(self.arguments.request.get("user")),
            api_key_hash=self.guard.callers.hashed(key.encode()) if key else None,
            endpoint=f"litellm.{self.dialect.function}",
            secrets=self.arguments.secrets,
        )

    async def ask(self) -> Any:
        """litellm's own answer to the request as it stands now; its exceptions pass unchanged."""
        return await self._in_time(self.dialect.call(self.arguments.decided(self.body)), "litellm")

    async def _in_time(self, work: Awaitable[T], what: str) -> T:
        with self.clock.until(self._ends) as scope:
            return await work
        assert scope.cancelled_caught
        raise await self.late(f"{what} took longer than the total time-out")

    async def open(self, *, stream: bool) -> GuardedStream:
        """Begin the response of this attempt."""
        context = StreamingContext(self.call_id, self.dialect.wire_format, 200, stream, self.attempts)
        self.attempts += 1
        self.stream = await self.guard.plane.open_stream(context)
        return self.stream

    def again(self, body: bytes) -> None:
        """Note a `Retry`. Raises litellm's APIError when there were too many."""
        if self.attempts > self.guard.limits.max_retries:
            raise self.api_error(502, "a policy asked for more retries than are allowed")
        self.body = body

    async def hang_up(self, inner: Any) -> None:
        """Close one of litellm's streams."""
        close = getattr(inner, "aclose", None)
        if close is not None:
            with self.last_words():
                await close()

    # -- the end -------------------------------------------------------------------------------------------------------

    async def failed(self, error: BaseException) -> None:
        """Close for an exception: litellm's, the plane's, or the caller's cancellation."""
        if must_travel(error):
            await self.close(Outcome(OutcomeStatus.CANCELLED, reason="the caller was cancelled"))
            return
        reason = type(error).__name__
        await self._tell(getattr(error, "status_code", None) or 502, "upstream_error", reason)
        await self.close(Outcome(OutcomeStatus.UPSTREAM_ERROR, reason=reason))

    async def late(self, message: str, code: str = "total_timeout") -> Exception:
        """Close for a deadline; gives litellm's exception for it."""
        await self._tell(504, code, message)
        await self.close(Outcome(OutcomeStatus.TIMEOUT, reason=message))
        timeout: Exception = litellm().Timeout(message, self.model, PROVIDER)
        return timeout

    async def _tell(self, status: int, code: str, message: str) -> None:
        """Let the policies know that upstream failed."""
        if self.closed or self.stream is None:
            return
        with self.last_words():
            await self.stream.fail(status, code, message)

    async def close(self, outcome: Outcome | None = None) -> Outcome | None:
        """End the exchange, once: later calls do nothing. Gives the outcome that was recorded."""
        if self.closed:
            return None
        self.closed = True
        with self.last_words():
            return await self.guard.plane.close(self.call_id, outcome)
        return None

    def last_words(self) -> anyio.CancelScope:
        """A scope for what must be said even when the caller is cancelled, within a bound."""
        scope = self.clock.until(self.clock() + self.guard.limits.close_timeout)
        scope.shield = True
        return scope

    async def close_or_raise(self, answer: Answer | None = None) -> None:
        """Close; raise PolicyViolation where a block is an exception, and litellm's APIError for an `answer` that is
        an error of another kind."""
        outcome = await self.close()
        if outcome is not None and outcome.status in _BLOCKED and (self.raises or _is_error(answer)):
            raise violation_type()(
                f"blocked by the policy {outcome.policy}",
                model=self.model,
                policy=outcome.policy,
                reason=outcome.reason,
                call_id=self.call_id,
            )
        if answer is not None and _is_error(answer):
            raise self.api_error(answer.status, error_message(json.loads(answer.body)))

    def api_error(self, status: int, message: str) -> Exception:
        """litellm's exception for what is no answer."""
        error: Exception = litellm().APIError(status, message, PROVIDER, self.model)
        return error


def _is_error(answer: Answer | None) -> bool:
    return answer is not None and answer.status != 200


def error_message(data: Mapping[str, Any]) -> str:
    """What an error of the wire format says."""
    error = data.get("error")
    return str(error.get("message", "")) if isinstance(error, Mapping) else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
