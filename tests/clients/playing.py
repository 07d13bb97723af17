"""A client's script under a policy, and what must come of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.cli.processes import environment
from tests.clients.scenario import FINAL, PLAN, SAID, SECRET, executed, expected, recorded

__all__ = ["SCRIPTS", "check", "play", "run"]

SCRIPTS: Final = Path(__file__).with_name("scripts")
_PATIENCE: Final = 120.0
#: litellm asks a host of its own for this file, with the first Anthropic call, unless it is told not to.
_OFFLINE: Final = {"LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}


def run(
    command: Sequence[str | Path], home: Path, given: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """A program in a home of its own, with nothing of whoever runs the tests."""
    return subprocess.run(
        [str(each) for each in command], input=given, env=environment(home, **{**_OFFLINE, **variables}), cwd=home,
        check=False, capture_output=True, text=True, timeout=_PATIENCE,
    )  # fmt: skip


def play(command: Sequence[str | Path], home: Path, url: str, wire_format: str) -> Any:
    """What the script found."""
    ids = {
        kind: [each.id for each in recorded(wire_format, stream=stream)]
        for kind, stream in (("whole", False), ("stream", True))
    }
    plan = {**PLAN, "url": url, "wire_format": wire_format, "recordings": ids}
    done = run(command, home, json.dumps(plan))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])  # litellm prints advice


def check(found: Any, policy: str, wire_format: str) -> None:
    """Every word and every call, as the policy leaves them."""
    assert (SECRET in json.dumps(found)) is (policy != "blocks")
    for kind, stream in (("whole", False), ("stream", True)):
        said = expected(policy, SAID)
        assert found["said"][kind] == [said, said]
        tools = found["tools"][kind]
        assert tools == {"executed": executed(policy), "final": expected(policy, FINAL)}, kind
        for each in recorded(wire_format, stream=stream):
            text = expected(policy, each.text)
            assert found["recorded"][each.id] == [text, text], each.id
