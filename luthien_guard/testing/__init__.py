"""Test policies, wire formats and applications without a network, a provider or a clock.

    from luthien_guard.testing import FakeJudge, Script, run

    async def test_destructive_commands_are_blocked():
        script = Script().text("Sure. ").tool_call("bash", {"command": "rm -rf /"})
        runs = await run("tool-call-judge", script, judge=FakeJudge({"rm -rf": 0.9}))
        runs.assert_blocked("tool-call-judge").no_leak("rm -rf")

Names are imported when they are first used: pytest loads this project's plugin before coverage starts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from luthien_guard.testing.clock import VirtualClock
    from luthien_guard.testing.cuts import Cut
    from luthien_guard.testing.format_check import check_wire_format
    from luthien_guard.testing.hubs import check_pubsub
    from luthien_guard.testing.judge import FakeJudge
    from luthien_guard.testing.leaks import find_leaks
    from luthien_guard.testing.policy_check import check_policy
    from luthien_guard.testing.reading import read
    from luthien_guard.testing.rendering import Rendering, render
    from luthien_guard.testing.runs import Runs, run
    from luthien_guard.testing.script import WIRE_FORMATS, Script
    from luthien_guard.testing.sinks import check_sink
    from luthien_guard.testing.transcript import Transcript

_HOMES: Final = {
    "WIRE_FORMATS": "script",
    "Cut": "cuts",
    "FakeJudge": "judge",
    "Rendering": "rendering",
    "Runs": "runs",
    "Script": "script",
    "Transcript": "transcript",
    "VirtualClock": "clock",
    "check_policy": "policy_check",
    "check_pubsub": "hubs",
    "check_sink": "sinks",
    "check_wire_format": "format_check",
    "find_leaks": "leaks",
    "read": "reading",
    "render": "rendering",
    "run": "runs",
}

__all__ = [
    "WIRE_FORMATS",
    "Cut",
    "FakeJudge",
    "Rendering",
    "Runs",
    "Script",
    "Transcript",
    "VirtualClock",
    "check_policy",
    "check_pubsub",
    "check_sink",
    "check_wire_format",
    "find_leaks",
    "read",
    "render",
    "run",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
