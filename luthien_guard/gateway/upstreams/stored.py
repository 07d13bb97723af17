"""Answers that an upstream keeps under an id. Which one made it is written nowhere, so that any worker on any machine can
look: those that speak the format are asked in turn."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeAlias

from luthien_guard.gateway.upstreams.native import NativeUpstream
from luthien_guard.gateway.upstreams.types import Call, Reply, Upstream, UpstreamError

__all__ = ["ask_keepers", "is_stored"]

Outcome: TypeAlias = "Reply | UpstreamError"

_STORED: Final = re.compile(
    r"(?:GET|DELETE) /v1/responses/[^/]+|POST /v1/responses/[^/]+/cancel|GET /v1/responses/[^/]+/input_items"
)
#: Outcomes after which the next upstream is asked, the least telling first: no such response; an unknown caller.
_ELSEWHERE: Final = {404: 0, 405: 0, 501: 0, 401: 1, 403: 1}
_FAILED: Final = 2  # the one that failed may be the one that has it: this outranks those that have not


def is_stored(call: Call) -> bool:
    """True for a request about an answer that an upstream keeps."""
    return call.wire_format == "openai.responses" and bool(_STORED.fullmatch(f"{call.method} {call.path}"))


async def ask_keepers(
    upstreams: Iterable[Upstream],
    call: Call,
    ask: Callable[[Upstream, Call], Awaitable[Outcome]],
    passing: frozenset[int],
) -> tuple[Upstream, Outcome] | None:
    """The answer of the first that has it, else what tells most of why none did. `passing`: statuses of a failure that
    says nothing about the request. None: there is nobody to ask."""
    kept: tuple[Upstream, Outcome] | None = None
    kept_rank = -1
    for upstream in _keepers(upstreams, call):
        outcome = await ask(upstream, call)
        failed = isinstance(outcome, UpstreamError) or outcome.status in passing
        rank = _FAILED if failed else _ELSEWHERE.get(outcome.status)
        if rank is None or rank > kept_rank:
            (dropped, kept), kept_rank = (kept, (upstream, outcome)), kept_rank if rank is None else rank
        else:
            dropped = (upstream, outcome)
        if dropped is not None and not isinstance(dropped[1], UpstreamError):
            await dropped[1].aclose()
        if rank is None:
            break
    return kept


def _keepers(upstreams: Iterable[Upstream], call: Call) -> Iterator[Upstream]:
    """Native ones, in order. Of those that would be sent the caller's own credential only the first, and others at the
    same address: what was given for one provider is shown to no other."""
    told: frozenset[str] | None = None  # the addresses that get the caller's credential
    for each in upstreams:
        if not isinstance(each, NativeUpstream) or not each.speaks(call):
            continue
        if call.forwards_credential and not each.has_own_key:
            told = each.origins if told is None else told
            if not each.origins <= told:
                call.record("upstream.skipped", upstream=each.name, reason="the credential is another one's")
                continue
        yield each
