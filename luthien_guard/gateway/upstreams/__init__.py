"""The upstreams of one gateway: which one is asked, how often, and which one after it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import anyio

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError, set_at
from luthien_guard.gateway.upstreams.native import NativeUpstream
from luthien_guard.gateway.upstreams.state import UpstreamState
from luthien_guard.gateway.upstreams.stored import ask_keepers, is_stored
from luthien_guard.gateway.upstreams.types import Call, Injector, Reply, Upstream, UpstreamError, untraced
from luthien_guard.limits import Limits

__all__ = ["Upstreams", "make_upstream"]

#: What a provider says when another try may fare better: too many requests, and its own failures.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_MAX_RETRIES: Final = 5
_PATIENCE: Final = 5.0  # seconds: a longer retry-after is the client's to wait for
_BACKOFF: Final = 0.25
_NOWHERE: Final = frozenset[str]()
_ANOTHER_S: Final = "the credential is another one's"


class Upstreams:
    """Picks, asks, asks again, falls back; all of it before the first byte of an answer has left."""

    def __init__(
        self,
        settings: Sequence[UpstreamSettings],
        limits: Limits,
        inject: Injector = untraced,
    ) -> None:
        """`inject` is for the calls: what puts the trace of the running exchange into their headers."""
        self.inject = inject
        self.all: list[Upstream] = []
        for at, each in enumerate(settings):
            with set_at("upstreams", at):
                self.all.append(make_upstream(each, at, limits))
        self._named = {each.name: each for each in self.all}
        self.states = {each.name: UpstreamState() for each in self.all}
        self.started = False
        self._lock: anyio.Lock | None = None
        with set_at("upstreams"):
            _check(self.all, self._named)

    async def start(self) -> None:
        """Idempotent: a mounted application has no lifespan of its own, its first request starts it."""
        if self.started:
            return
        self._lock = self._lock or anyio.Lock()
        async with self._lock:
            if not self.started:
                for each in self.all:
                    await each.start()
                self.started = True

    async def stop(self) -> None:
        self.started = False
        for each in self.all:
            await each.stop()

    async def ask(self, call: Call) -> tuple[Upstream, Reply]:
        """The first answer that is none of the passing failures; else the last one that is. Raises UpstreamError."""
        if is_stored(call):
            return _answered(call, await ask_keepers(self.all, call, self._tried, _PASSING))
        failed: tuple[Upstream, Reply] | None = None
        failure = _nobody(call)
        for upstream, own in self._candidates(call):
            outcome = await self._tried(upstream, own)
            if isinstance(outcome, UpstreamError):
                failure = outcome
                continue
            if failed is not None:
                await failed[1].aclose()
            failed = (upstream, outcome)
            if outcome.status not in _PASSING:
                break
        if failed is None:
            raise failure
        return failed

    def find(self, call: Call) -> Upstream | None:
        """The first one that serves the model in this wire format; a request that names no model goes to the first one
        that speaks the format."""
        return next(
            (each for each in self.all if each.speaks(call) and (not call.model or each.serves(call))), None
        )

    # ------------------------------------------------------------------------------------------------------------------

    def _candidates(self, call: Call) -> Iterator[tuple[Upstream, Call]]:
        """The upstreams to ask, and the call as each gets it: what the caller gave for the host of the first one that
        sends anything is shown to no other."""
        first = self.find(call)
        told: frozenset[str] | None = _NOWHERE
        for upstream in _chain(first, self._named, call) if first is not None else ():
            told = upstream.origins if told == _NOWHERE else told
            shown = upstream is first or not call.forwards_credential or _is_told(upstream, told)
            if not shown and upstream.needs_caller(call):
                call.record("upstream.skipped", upstream=upstream.name, reason=_ANOTHER_S)
                continue
            if upstream is not first:
                call.record("upstream.fallback", upstream=upstream.name)
            yield upstream, call if shown else replace(call, forwards_credential=False)

    async def _tried(self, upstream: Upstream, call: Call) -> Reply | UpstreamError:
        state = self.states[upstream.name]
        tries = 0
        while True:
            outcome = await _asked(upstream, call)
            failed = isinstance(outcome, UpstreamError) or outcome.status in _PASSING
            state.noted(outcome)
            wait = _wait(outcome, tries) if failed and tries < min(upstream.retries, _MAX_RETRIES) else None
            if wait is None:
                return outcome
            if not isinstance(outcome, UpstreamError):
                await outcome.aclose()
            tries += 1
            call.record("upstream.retry", upstream=upstream.name, tries=tries, status=outcome.status)
            await anyio.sleep(wait)


def make_upstream(settings: UpstreamSettings, at: int, limits: Limits) -> Upstream:
    """Raises ConfigError unless exactly one of `native`, `litellm` and `replay` is given."""
    kinds = [kind for kind in ("native", "litellm", "replay") if getattr(settings, kind) is not None]
    if len(kinds) != 1:
        given = " and ".join(kinds) or "none"
        raise ConfigError(
            f"upstream {at + 1}: exactly one of native, litellm and replay is needed, not {given}"
        )
    name = settings.name or f"{kinds[0]}-{at + 1}"
    if kinds[0] == "native":
        return NativeUpstream(settings, name, limits)
    if kinds[0] == "replay":
        from luthien_guard.gateway.upstreams.replay import ReplayUpstream

        return ReplayUpstream(settings, name)
    from luthien_guard.gateway.upstreams.litellm import LitellmUpstream

    return LitellmUpstream(settings, name, limits)


def _check(upstreams: Sequence[Upstream], named: dict[str, Upstream]) -> None:
    if len(named) != len(upstreams):
        raise ConfigError("two upstreams have one name")
    for each in upstreams:
        for name in each.fallback:
            if name not in named:
                raise ConfigError(f"upstream {each.name}: its fallback {name!r} is no upstream's name")
    for each in upstreams:
        _check_credentials(each, named)


def _check_credentials(first: Upstream, named: Mapping[str, Upstream]) -> None:
    """Of every upstream that may come to be asked after `first`. litellm's may find a credential by themselves: they are
    looked at when they are asked."""
    chain = [each for each in _chain(first, named) if each.origins != _NOWHERE]
    for each in chain[1:]:
        if isinstance(each, NativeUpstream) and not each.has_own_key and not _is_told(each, chain[0].origins):
            raise ConfigError(
                f"upstream {first.name}: its fallback {each.name} has no api_key and is another host: it would be sent "
                "the caller's credential for the first one"
            )


def _chain(first: Upstream, named: Mapping[str, Upstream], call: Call | None = None) -> Iterator[Upstream]:
    """`first` and its fallbacks, theirs after them, each once; where there is a call, those that speak as it does."""
    todo, seen = [first], set[str]()
    while todo:
        upstream = todo.pop(0)
        if upstream.name in seen or not (call is None or upstream.speaks(call)):
            continue
        seen.add(upstream.name)
        yield upstream
        todo += [named[name] for name in upstream.fallback]


def _is_told(upstream: Upstream, told: frozenset[str] | None) -> bool:
    """Whether what it sends goes to `told` and nowhere else; None is anywhere."""
    return told is not None and upstream.origins is not None and upstream.origins <= told


def _answered(call: Call, found: tuple[Upstream, Reply | UpstreamError] | None) -> tuple[Upstream, Reply]:
    upstream, outcome = found or (None, _nobody(call))
    if upstream is None or isinstance(outcome, UpstreamError):
        assert isinstance(outcome, UpstreamError)
        raise outcome
    return upstream, outcome


async def _asked(upstream: Upstream, call: Call) -> Reply | UpstreamError:
    try:
        return await upstream.ask(call)
    except UpstreamError as error:
        return error


def _wait(outcome: Reply | UpstreamError, tries: int) -> float | None:
    """Seconds until the next try; None when there should be none."""
    if isinstance(outcome, UpstreamError) and not outcome.again:
        return None
    headers = dict(outcome.headers)
    try:
        asked = float(headers.get(b"retry-after-ms", b"")) / 1000
    except ValueError:
        try:
            asked = float(headers.get(b"retry-after", b""))
        except ValueError:
            return _backoff(tries)
    return asked if 0 <= asked <= _PATIENCE else None


def _backoff(tries: int) -> float:
    return min(_PATIENCE, _BACKOFF * 2.0**tries) * (0.5 + random.random() / 2)


def _nobody(call: Call) -> UpstreamError:
    return UpstreamError(
        404,
        "model_not_found",
        f"no upstream serves the model {call.model[:100]!r} in {call.wire_format}",
        again=False,
    )
