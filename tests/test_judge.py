"""The judge that asks litellm: loaded late, and quiet towards the network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASKED = """
import os, sys, anyio
from luthien_guard.judge import ask_with_litellm
assert "litellm" not in sys.modules
messages = [{"role": "user", "content": "?"}]
said = anyio.run(lambda: ask_with_litellm(messages, model="gpt-4o", api_key="k", mock_response="0.9"))
print(said, *(os.environ[name] for name in NAMES))
"""
NAMES = ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")


@pytest.mark.parametrize(("own", "expected"), [({}, "0.9 True True"), ({NAMES[1]: "no"}, "0.9 True no")])
def test_nothing_is_fetched_unless_the_user_says_so(own: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | own
    done = subprocess.run(
        [sys.executable, "-c", ASKED.replace("NAMES", repr(NAMES))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.split("\n")[-2] == expected, done.stderr
