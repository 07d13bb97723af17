"""Who may come in. Only the seam: the gateway's own keys are in `keys`, a service of the host's may stand here too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["Anyone", "Authenticator", "Headers", "Principal", "Refusal"]

#: As ASGI gives them: names in lower case, repeats kept.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `forwards_credential`: what stands in `authorization` and `x-api-key` is the caller's own with the
    provider and may be sent to an upstream that has no `api_key`; a key of the gateway itself never is. `ambient`: the
    host's own credentials, where litellm finds them in the environment, are for this caller too (for a caller whose
    credential is not forwarded they are the only ones). `vouched_for`: False where others have keys of the gateway, and
    this caller brought what only a provider can judge, or nothing."""

    id: str = ""
    forwards_credential: bool = True
    ambient: bool = False
    scopes: frozenset[str] = frozenset()
    vouched_for: bool = True
    policy_set: str | None = None  # the guard's further policies for this caller


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not. `status` is 401 or 403, or 429 or 503 with `retry_after` in seconds."""

    status: int
    code: str
    message: str
    retry_after: float | None = None


class Authenticator(Protocol):
    """Decides by the headers alone, before a byte of the body is read."""

    async def admit(self, headers: Headers) -> Principal | Refusal: ...


class Anyone:
    """Mode `off`, for one's own machine."""

    async def admit(self, headers: Headers) -> Principal | Refusal:
        return Principal(ambient=True)
