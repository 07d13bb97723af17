"""What the client needs of litellm beside its functions."""

from __future__ import annotations

from functools import cache, partial
from importlib.metadata import version
from typing import Any

import anyio

from luthien_guard.judge import function, litellm

__all__ = ["PROVIDER", "function", "litellm", "needs_asyncio", "no_choice", "violation_type"]

PROVIDER = "luthien_guard"  # what litellm's exceptions name as the provider where it was the guard that spoke


def needs_asyncio() -> None:
    """litellm runs on asyncio only; say so before it fails in its depths. Raises RuntimeError."""
    library = anyio.get_cancelled_exc_class().__module__.partition(".")[0]
    if library != "asyncio":
        raise RuntimeError(
            f"litellm runs on asyncio only: the guarded client cannot be awaited on {library}. "
            "Call `completion` in a worker thread instead."
        )


def no_choice(*, usage: bool) -> list[dict[str, Any]]:
    """What litellm's chunks that say nothing have for choices: callers read `choices[0]` of every chunk. Those of `usage`
    alone have none from 1.109 on."""
    return [] if usage and _version() >= (1, 109) else [{"index": 0, "delta": {}}]


@cache
def _version() -> tuple[int, ...]:
    return tuple(map(int, version("litellm").split(".")[:2]))


@cache
def violation_type() -> Any:
    """`PolicyViolation`: what a block raises with `on_block="raise"`. A subclass of litellm's own class, so it can
    only be made once litellm is there."""
    base: Any = litellm().exceptions.ContentPolicyViolationError

    class PolicyViolation(base):  # type: ignore[misc]
        """A policy blocked the request or the answer. `policy`, `reason` and `call_id` say which, why and where."""

        def __init__(
            self, message: str, *, model: str, policy: str | None, reason: str | None, call_id: str
        ) -> None:
            super().__init__(message=message, model=model, llm_provider=PROVIDER)
            self.policy = policy
            self.reason = reason
            self.call_id = call_id
            self._told: dict[str, Any] = {
                "model": model,
                "policy": policy,
                "reason": reason,
                "call_id": call_id,
            }
            self._message = message  # litellm puts its own words in front of `message`

        def __reduce__(self) -> Any:
            """So that it reaches another process: a pool waits for ever for an exception that it cannot load."""
            return partial(PolicyViolation, self._message, **self._told), ()

    PolicyViolation.__module__ = "luthien_guard.client"
    PolicyViolation.__qualname__ = "PolicyViolation"
    return PolicyViolation
