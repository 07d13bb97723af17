"""A hundred processes killed in the middle of streams, for each durability; `python -m tests.faults.killed` does more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("durability", ["strict", "balanced"])
def test_no_decision_that_had_an_effect_is_missing(durability: str) -> None:
    command = [sys.executable, "-m", "tests.faults.killed", "--runs", "100", "--durability", durability]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["runs"] == 100
    assert found["exchanges"] > 100
    assert found["interrupted"] > 50, "the kills met exchanges that were under way"
