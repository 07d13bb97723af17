"""Exchanges do not see each other, one after the other or at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from luthien_guard.guard import Guard
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.cuts import Cut
from luthien_guard.testing.exchange import Played, play
from luthien_guard.testing.likeness import asked, gist
from luthien_guard.testing.policy_check.checked import check
from luthien_guard.testing.requests import request_for
from luthien_guard.testing.script import Script

__all__ = ["check_apart"]


async def check_apart(
    policy: Any, scripts: Sequence[Script], wire_format: str, options: Mapping[str, Any]
) -> None:
    """The same exchanges one after the other and all at once, on one guard, give the same."""
    options = {"clock": VirtualClock(), **options}
    alone = [await _one(Guard([policy], **options), script, wire_format) for script in scripts]
    guard = Guard([policy], **options)
    together = await _at_once(guard, scripts, wire_format)
    again = [await _one(guard, script, wire_format) for script in scripts]
    for how, found in (("at once", together), ("once more", again)):
        for played, before in zip(found, alone, strict=True):
            _check_same(how, played, before)


async def _one(guard: Guard, script: Script, wire_format: str) -> Played:
    request = request_for(wire_format, "Hello", stream=True, choices=script.choices)
    await anyio.lowlevel.checkpoint()
    cut = Cut("frame by frame", list)
    return await play(guard, [script], wire_format, stream=True, cut=cut, request=request)


async def _at_once(guard: Guard, scripts: Sequence[Script], wire_format: str) -> list[Played]:
    found: dict[int, Played] = {}

    async def one(at: int, script: Script) -> None:
        found[at] = await _one(guard, script, wire_format)

    async with anyio.create_task_group() as tasks:
        for at, script in enumerate(scripts):
            tasks.start_soon(one, at, script)
    return [found[at] for at in range(len(scripts))]


def _check_same(how: str, played: Played, alone: Played) -> None:
    alike = gist(played) == gist(alone) and asked(played) == asked(alone)
    told = f"an exchange depends on others: alone {gist(alone)}, {how} {gist(played)}"
    kept = "keep what belongs to one exchange in ctx.state(...) or ctx.scratchpad"
    check(f"exchanges {how}", played, alike, f"{told}; {kept}")
