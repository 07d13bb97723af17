"""One guarded call: decide the request, ask litellm, put what it says through the guard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import anyio

from luthien_guard.client.arguments import Arguments
from luthien_guard.client.dialects import Dialect
from luthien_guard.client.litellm_api import litellm, violation_type
from luthien_guard.control_plane.service import GuardedStream, Release, StreamingContext
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata, new_call_id
from luthien_guard.guard import Guard

__all__ = ["ClientExchange", "frames"]

_BLOCKED = (OutcomeStatus.BLOCKED, OutcomeStatus.POLICY_ERROR)


class ClientExchange:
    """From the first decision to the close, which happens exactly once."""

    def __init__(self, guard: Guard, dialect: Dialect, arguments: Arguments, *, raises: bool) -> None:
        self.guard = guard
        self.dialect = dialect
        self.arguments = arguments
        self.raises = raises
        self.call_id = new_call_id()
        self.body = arguments.body
        self.attempt = 0
        self._closed = False

    @property
    def streamed(self) -> bool:
        return bool(self.arguments.request.get("stream"))

    async def decide(self) -> Release | None:
        """Run the request's hooks: None to go on, or what to answer without asking anybody."""
        await self.guard.start()
        metadata = RequestMetadata(self.call_id, time.time())
        result = await self.guard.plane.decide_request(metadata, self.dialect.wire_format, self.body)
        decision = result.value
        self.body = decision.body
        if decision.answer is None:
            return None
        if decision.answer.status != 200 and result.metadata.get("policy") is None:
            await self.close(None)
            raise litellm().BadRequestError(
                message=result.reason or "malformed request", model=decision.model, llm_provider="luthien_guard"
            )
        if decision.answer.status != 200:
            return Release(answer=decision.answer, done=True)
        return Release(((decision.answer.body, None),), done=True)

    async def ask(self) -> Any:
        """litellm's own answer to the request as it stands now; its exceptions pass unchanged."""
        call: Callable[..., Any] = getattr(litellm(), self.dialect.function)
        try:
            with anyio.fail_after(self.guard.limits.total_timeout):
                return await call(**self.arguments.changed(self.body))
        except TimeoutError:
            await self.close(Outcome(OutcomeStatus.TIMEOUT, reason="no answer within the total time-out"))
            raise
        except BaseException as error:
            await self.failed(error)
            raise

    async def open(self) -> GuardedStream:
        context = StreamingContext(self.call_id, self.dialect.wire_format, 200, self.streamed, self.attempt)
        self.attempt += 1
        return await self.guard.plane.open_stream(context)

    async def whole(self) -> Any:
        """The answer of a call that is not streamed."""
        while True:
            original = await self.ask()
            stream = await self.open()
            data = self.dialect.mapping(original)
            release = await stream.feed_chunks([data], last=True)
            items = list(release.items)
            while release.pending:
                release = await stream.settle()
                items += release.items
            if release.retry is None:
                return await self.answer(items, release, original)
            self.body = release.retry

    async def answer(self, items: list[tuple[bytes, int | None]], release: Release, original: Any) -> Any:
        """litellm's object for what left: the original where nothing was changed."""
        await self.close_or_raise(release)
        if items and all(source is not None for _, source in items):
            return original
        return self.dialect.answer(json.loads(b"".join(raw for raw, _ in items)), original)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def failed(self, error: BaseException) -> None:
        """Close for an exception of litellm's, or for the caller's cancellation."""
        cancelled = isinstance(error, (anyio.get_cancelled_exc_class(), GeneratorExit))
        status = OutcomeStatus.CANCELLED if cancelled else OutcomeStatus.UPSTREAM_ERROR
        await self.close(Outcome(status, reason=type(error).__name__))

    async def close(self, outcome: Outcome | None) -> Outcome | None:
        if self._closed:
            return None
        self._closed = True
        with anyio.CancelScope(shield=True), anyio.move_on_after(self.guard.limits.close_timeout):
            return await self.guard.plane.close(self.call_id, outcome)
        return None

    async def close_or_raise(self, release: Release | None = None) -> None:
        """Close; where a block is an exception for this caller, raise it."""
        outcome = await self.close(None)
        refused = release is not None and release.answer is not None and release.answer.status != 200
        if outcome is None or not (refused or (self.raises and outcome.status in _BLOCKED)):
            return
        raise violation_type()(
            f"blocked by the policy {outcome.policy}",
            model=str(self.arguments.request.get("model", "")),
            policy=outcome.policy,
            reason=outcome.reason,
            call_id=self.call_id,
        )


def frames(raw: bytes) -> list[dict[str, Any]]:
    """The JSON of the SSE events in bytes that the guard wrote: canonical ones, one data line each."""
    lines = [line[5:].strip() for line in raw.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]

