"""The one object that an application makes: policies, sinks, limits, and the doors to both shells."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import anyio
from anyio import to_thread

from luthien_guard.callers import Callers, pepper_of
from luthien_guard.clock import clock_from
from luthien_guard.control_plane.capture import CapturedStream
from luthien_guard.control_plane.local import LocalControlPlane
from luthien_guard.control_plane.service import ControlPlaneService
from luthien_guard.delivery import Delivery
from luthien_guard.delivery.places import hub_at
from luthien_guard.delivery.redaction import Redactor
from luthien_guard.delivery.storage import Storage
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.services import Services
from luthien_guard.engine.version import versions_of
from luthien_guard.errors import ConfigError, did_you_mean, set_at
from luthien_guard.exchange import RequestMetadata
from luthien_guard.forks import Lock, told_of_forks
from luthien_guard.identity import SESSION_FROM, SessionSource
from luthien_guard.judge import ask_with_litellm, load
from luthien_guard.limits import Limits
from luthien_guard.pipeline.asking import at_once, within
from luthien_guard.policy import Judge
from luthien_guard.policy_sets import listed, plans, secrets_of, sets_of
from luthien_guard.pubsub import PubSub
from luthien_guard.query import Query
from luthien_guard.records import Record, Sink
from luthien_guard.sinks.urls import open_tracer
from luthien_guard.store import Store
from luthien_guard.wire.format import WireFormat
from luthien_guard.wire.formats import FORMATS

if TYPE_CHECKING:
    from luthien_guard.config.load import Loaded
    from luthien_guard.config.reload import ConfigStatus

__all__ = ["Guard"]

OnBlock = Literal["refuse", "error", "raise"]


class Guard:
    """Policies over LLM traffic. One per application, for all of its threads and event loops. Raises ConfigError.

    What decides:
      `policies`: in the order in which they run. Each is a Policy instance, the name of an installed policy, or a mapping
        `{"use": name or instance, "config": {...}, "mode": "enforce"|"shadow"|"off", "on_error": "block"|"allow",
        "timeout": seconds, "name": str, "group": str}`. With `allow_paths`, `use` may be "module:Class".
      `policy_sets`: further policies by the name of a set. They run after the others, in exchanges whose caller was
        given that set.
      `mode`: "observe" puts every policy in shadow. `unknown`: "block" refuses chunks of kinds that the wire format
        does not know. `limits`: `Limits(...)`. `judge`: answers `ctx.judge(...)`; by default litellm does.
      `on_block`: a block answers with a complete answer that says so ("refuse"), or with the provider's error, which the
        client raises ("error" or "raise": the same).

    What is recorded:
      `store`, `pubsub`: where records go, and through what listeners hear of them, as URLs (`sqlite:///guard.db`,
        `postgresql://...`, `jsonl:///path`, `memory://`, `redis://...`) or objects. `sinks`: objects with a `put(record)`.
      `durability`: "strict" has every decision on disk before its effect. `on_unrecorded`: a decision that cannot be
        stored has no effect, unless this is "allow".
      `data`: the folder of what belongs to the store on this machine (spool, locks, pepper).
      `session_from`: what groups exchanges: "header:NAME", "body:PATH", or functions of the request.
      `capture_chunks`: records responses piece by piece with their times, for replays. `redact`: a Redactor.
      `tracing`: "otel" makes spans and metrics with what OpenTelemetry the process has.

    For tests and remote control: `clock` gives monotonic seconds; `plane` decides in place of the engine in this process.
    """

    def __init__(
        self,
        policies: Iterable[Any] = (),
        *,
        policy_sets: Mapping[str, Iterable[Any]] | None = None,
        mode: Literal["enforce", "observe"] = "enforce",
        on_block: OnBlock = "refuse",
        unknown: Literal["allow", "block"] = "allow",
        limits: Limits | None = None,
        store: str | Store | None = None,
        pubsub: str | PubSub | None = "memory://",
        durability: Literal["balanced", "strict"] = "balanced",
        data: str | os.PathLike[str] | None = None,
        on_unrecorded: Literal["block", "allow"] = "block",
        session_from: Sequence[SessionSource] = SESSION_FROM,
        capture_chunks: bool = False,
        redact: Redactor | None = None,
        tracing: str | Sink | None = None,
        sinks: Iterable[Sink] = (),
        judge: Judge | None = None,
        clock: Callable[[], float] | None = None,
        plane: ControlPlaneService | None = None,
        allow_paths: bool = False,
    ) -> None:
        _one_of("mode", mode, ("enforce", "observe"))
        _one_of("on_block", on_block, ("refuse", "error", "raise"))
        _one_of("unknown", unknown, ("allow", "block"))
        _one_of("durability", durability, ("balanced", "strict"))
        _one_of("on_unrecorded", on_unrecorded, ("block", "allow"))
        if judge is not None and not callable(judge):
            raise ConfigError(
                f"judge is a {type(judge).__name__}: give a function that answers `ctx.judge(...)`"
            )
        self.on_block: OnBlock = on_block
        self.limits = _checked(limits)
        self.clock: Callable[[], float] = time.monotonic if clock is None else clock
        self.formats: Mapping[str, WireFormat] = FORMATS
        self._plans: Mapping[str | None, Plan] = plans(
            policies, policy_sets, mode=mode, allow_paths=allow_paths
        )
        folder = None if data is None else Path(data)
        self.storage = None if store is None else Storage(store, folder, hub=pubsub, durability=durability)
        if store is None and pubsub != "memory://":
            hub_at(pubsub)  # not needed here; one that cannot be is an error all the same
        self.redactor = redact or Redactor()
        self.redactor.learn(*secrets_of(self._plans.values()))
        pepper = None if self.storage is None else partial(pepper_of, self.storage.folder)
        with set_at("session_from"):
            self.callers = Callers(pepper=pepper, session_from=session_from)
        with set_at("tracing"):
            self._tracer = open_tracer(tracing) if isinstance(tracing, str) else tracing
        sinks = _takers([*([] if self._tracer is None else [self._tracer]), *sinks])
        self.delivery = Delivery(sinks, storage=self.storage, durability=durability, redact=self.redactor)
        self._asks_litellm = judge is None
        self.plane: ControlPlaneService = plane or LocalControlPlane(
            self._plan_of,
            self._services(judge, unknown, on_unrecorded, capture_chunks=capture_chunks),
            self.formats,
            self.delivery.recorder,
            session_from,
            CapturedStream if capture_chunks else None,
        )
        #: Of the file that the policies come from, while somebody watches it (`luthien_guard.config.reload`).
        self.config_status: ConfigStatus | None = None
        #: What `from_config` read, and the arguments that stand over it.
        self.made_of: Loaded | None = None
        self.overrides: Mapping[str, Any] = {}
        self._lock = Lock()
        #: From `start` to `stop`, in this process: threads do not survive a fork.
        self.running = False
        told_of_forks(self, Guard._after_fork)
        self._query: Query | None = None

    def _services(
        self,
        judge: Judge | None,
        unknown: Literal["allow", "block"],
        on_unrecorded: Literal["block", "allow"],
        *,
        capture_chunks: bool,
    ) -> Services:
        spans = (getattr(sink, "span_of", None) for sink in self.delivery.sinks)
        return Services(
            clock=self.clock,
            within=partial(within, clock_from(self.clock)),
            at_once=at_once,
            judge=judge if judge is not None else ask_with_litellm,
            span_of=next(filter(None, spans), None),
            limits=self.limits,
            on_block="refuse" if self.on_block == "refuse" else "error",
            unknown=unknown,
            keeps_content=self.storage is not None or self._tracer is not None or capture_chunks,
            on_unrecorded=on_unrecorded,
        )

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], **overrides: Any) -> Self:
        """Make a guard from a YAML file; `overrides` are arguments that stand over it, also when it is loaded anew. Raises
        ConfigError with the file's name and what is wrong in it."""
        from luthien_guard.config import guard_arguments, load_config, of_file

        loaded = load_config(Path(path))
        with of_file(loaded.path, loaded.origins):
            if "policies" in overrides:  # what can be iterated only once must last for every reload
                overrides["policies"] = listed("policies", overrides["policies"])
            if "policy_sets" in overrides:
                overrides["policy_sets"] = sets_of(overrides["policy_sets"])
            guard = cls(**{**guard_arguments(loaded.config), **overrides})
        guard.made_of, guard.overrides = loaded, overrides
        return guard

    @property
    def policies(self) -> tuple[str, ...]:
        """The names of the policies, in order."""
        return tuple(each.name for each in self._plans[None].registered)

    @property
    def policy_sets(self) -> frozenset[str]:
        """The names of the further sets of policies."""
        return frozenset(name for name in self._plans if name is not None)

    @property
    def policy_version(self) -> str:
        """Which policies run: the same twelve hex digits wherever the same ones are configured alike. That of one exchange
        stands in its record; further sets of policies have versions of their own."""
        return versions_of({name: plan.version for name, plan in self._plans.items()})

    async def prepare(self, other: Guard) -> None:
        """Load what the policies of `other` ask, before `adopt`. Raises ImportError."""
        await self._load_judge(other._plans)

    def adopt(self, other: Guard) -> None:
        """Take over the policies of `other`, which was built and validated whole. Exchanges that run end under the
        policies with which they began; `limits`, `on_block`, `unknown` and the store stay this guard's own."""
        self._plans = other._plans
        self.redactor.learn(*secrets_of(self._plans.values()))

    def holds(self) -> list[tuple[str, str]]:
        """The leak bound: (policy, what it holds back before anything leaves)."""
        return self._plans[None].bounds()

    def _plan_of(self, metadata: RequestMetadata) -> Plan:
        """Looked up once an exchange. A set that is not there (any more) is no reason to run without it."""
        plan = self._plans.get(metadata.policy_set)
        if plan is None:
            raise ConfigError(f"no policy set {metadata.policy_set!r} is configured")
        return plan

    def records_of(self, call_id: str) -> tuple[Record, ...]:
        """What is remembered of an exchange, oldest fact first; the last thousand exchanges are kept in memory."""
        return self.delivery.latest.records(call_id)

    @property
    def recent_calls(self) -> tuple[str, ...]:
        """The ids of the exchanges that `records_of` knows, oldest first."""
        return self.delivery.latest.calls()

    def _after_fork(self) -> None:
        """In the child, who starts anew: what asked the store and what wrote to it are the parent's."""
        self.running = False
        self._query = None

    async def start(self) -> None:
        """Start what has to run beside traffic. Idempotent, from any event loop; the shells call it. Raises SinkError when
        the store cannot be used."""
        if not self.running:
            await self._load_judge(self._plans)
            await self._beside(self._start)

    async def stop(self) -> None:
        """Flush and end it. Idempotent."""
        with anyio.CancelScope(shield=True):
            try:
                if self._query is not None:
                    await self._query.close()
            finally:
                await self._beside(self._stop)

    async def _load_judge(self, plans: Mapping[str | None, Plan]) -> None:
        """Now, and not within the deadline of the first hook that asks it."""
        active = (each for plan in plans.values() for each in plan.registered if each.mode != "off")
        if self._asks_litellm and any(each.policy.asks_judge for each in active):
            await load()

    async def _beside(self, work: Callable[[], None]) -> None:
        """In a thread where a store may block; at once for a guard that has none."""
        if self.storage is None:
            work()
        else:
            await to_thread.run_sync(work)

    def _start(self) -> None:
        with self._lock:
            if self.running:
                return
            if self.storage is not None:
                self.storage.start()
            self.running = True
            _call_if_there(self._tracer, "start", self.delivery.ledger)

    def _stop(self) -> None:
        with self._lock:
            if not self.running:
                return
            self.running = False
            try:
                _call_if_there(self._tracer, "stop")
            finally:
                if self.storage is not None:
                    self.storage.stop()

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Put the trace of the running exchange into the headers of a call to upstream; nothing without `tracing`."""
        _call_if_there(self._tracer, "inject", headers)

    @property
    def hub(self) -> PubSub:
        """Tells who subscribes what was stored, by id. Raises ConfigError for a guard without a store or a hub."""
        if self.storage is None or self.storage.hub is None:
            raise ConfigError("the guard has no hub to listen to: Guard(store=..., pubsub=...)")
        return self.storage.hub

    @property
    def query(self) -> Query:
        """Asks what is on record. Raises ConfigError for a guard that has no store."""
        if self._query is None:
            if self.storage is None:
                raise ConfigError("the guard has no store to ask: Guard(store=...)")
            self._query = Query(self.storage.reader, self.storage.give_back)
        return self._query

    def ledger(self) -> Mapping[str, int]:
        """What became of every record: `accepted == stored + spooled + in_memory + dropped`, always."""
        return self.delivery.ledger()

    @property
    def health(self) -> Mapping[str, str]:
        """What is wrong now, by part; empty when all is well."""
        return {} if self.storage is None else self.storage.health

    # -- the client's doors: they open upwards, so they are looked for only when somebody goes through ------------------

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        """`litellm.acompletion` under this guard's policies."""
        client = importlib.import_module("luthien_guard.client.functions")
        return await client.guarded(self, client.CHAT, args, kwargs)

    async def aresponses(self, *args: Any, **kwargs: Any) -> Any:
        """`litellm.aresponses` under this guard's policies."""
        client = importlib.import_module("luthien_guard.client.functions")
        return await client.guarded(self, client.RESPONSES, args, kwargs)

    async def anthropic_messages(self, *args: Any, **kwargs: Any) -> Any:
        """`litellm.anthropic_messages` under this guard's policies."""
        client = importlib.import_module("luthien_guard.client.functions")
        return await client.guarded(self, client.MESSAGES, args, kwargs)

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        """`litellm.completion` under this guard's policies, for code that is not async."""
        client = importlib.import_module("luthien_guard.client.functions")
        return client.run_sync(lambda: client.guarded_completion(self, args, kwargs))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _call_if_there(sink: Sink | None, name: str, *args: Any) -> None:
    """Sinks that have something to start or stop say so by having a method for it."""
    found = getattr(sink, name, None)
    if found is not None:
        found(*args)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{name} is {value!r}{did_you_mean(value, allowed)}: use one of {', '.join(allowed)}"
        )


def _checked(limits: object) -> Limits:
    if limits is not None and not isinstance(limits, Limits):
        raise ConfigError(f"limits is a {type(limits).__name__}: give Limits(...)")
    return limits or Limits()


def _takers(sinks: list[Sink]) -> list[Sink]:
    for each in sinks:
        if not callable(getattr(each, "put", None)):
            raise ConfigError(
                f"sinks has {each!r}, which has no `put`: give objects; a URL of records is the store"
            )
    return sinks
