"""Drives the local control plane with the tiny format: no HTTP, no tasks of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from luthien_guard.clock import MonotonicClock, clock_from
from luthien_guard.control_plane.local import LocalControlPlane
from luthien_guard.control_plane.service import Release, StreamingContext
from luthien_guard.delivery import Delivery
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.services import Services
from luthien_guard.exchange import Outcome, RequestMetadata
from luthien_guard.limits import Limits
from luthien_guard.pipeline.asking import at_once, within
from luthien_guard.records import EventType, Record
from tests.engine.lines import Lines, seen, wire


@dataclass
class Run:
    releases: list[Release] = field(default_factory=list)
    outcome: Outcome | None = None
    records: tuple[Record, ...] = ()

    @property
    def data(self) -> bytes:
        return b"".join(release.data for release in self.releases)

    @property
    def seen(self) -> list[Any]:
        return seen(self.data)

    @property
    def text(self) -> str:
        return "".join(each.get("text", "") for each in self.seen)

    def recorded(self, type: EventType) -> list[Record]:
        return [record for record in self.records if record.type is type]


class Bench:
    """A plane over the tiny format and what one exchange of it gave."""

    def __init__(self, policies: Sequence[Any], *, calls_last: bool = False, **options: Any) -> None:
        self.delivery = Delivery([])
        mode = options.pop("mode", "enforce")
        clock = options.pop("clock", MonotonicClock())
        options.setdefault("within", partial(within, clock_from(clock)))
        services = Services(clock=clock, at_once=at_once, **options)
        plan = Plan(policies, mode=mode)
        self.services = services
        self.plane = LocalControlPlane(
            lambda _: plan, services, {"lines": Lines(calls_last=calls_last)}, self.delivery.recorder
        )

    async def run(self, *chunks: Any, step: int | None = None, raw: bytes | None = None) -> Run:
        """One exchange; `step` cuts the bytes into pieces of that size."""
        run = Run()
        await self.begin()
        stream = self.stream
        data = wire(*chunks) if raw is None else raw
        cuts = [data] if step is None else [data[at : at + step] for at in range(0, len(data), step)]
        for last, cut in [*((False, cut) for cut in cuts), (True, b"")]:
            run.releases.append(await stream.feed(cut, last=last))
            while run.releases[-1].pending:
                run.releases.append(await stream.settle())
        return await self.end(run)

    async def begin(self) -> None:
        await self.plane.decide_request(RequestMetadata("c", 0.0), "lines", b'{"model":"m"}')
        self.stream = await self.plane.open_stream(StreamingContext("c", "lines", 200, True))

    async def end(self, run: Run | None = None) -> Run:
        run = run or Run()
        run.outcome = await self.plane.close("c")
        run.records = self.delivery.latest.records("c")
        return run


__all__ = ["Bench", "Limits", "Run"]
