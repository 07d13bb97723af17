"""Claude Code, headless, with a shell of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.testing import Script
from luthien_guard.testing.provider import Asked, FakeProvider
from tests.clients.gateway import Gateways, gateways
from tests.clients.playing import run
from tests.clients.programs import Programs
from tests.clients.scenario import (
    FINAL,
    PLAN,
    SAID,
    SECRET,
    USE_TOOLS,
    answer,
    expected,
    left_behind,
    recorded,
)

pytestmark = pytest.mark.clients


class Claude:
    """`claude -p`, as a user has it who set a base URL."""

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        self._home = home

    def __call__(self, url: str, prompt: str, *options: str, **variables: str) -> list[dict[str, Any]]:
        """The events that it prints; the last one is the result."""
        command = [self._program, "-p", prompt, "--output-format", "stream-json", "--verbose", *options]
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
        told = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "any", **quiet, **variables}
        done = run(command, self._home, **told)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert events[-1]["type"] == "result" and not events[-1]["is_error"]
        return events


@pytest.fixture
def claude(programs: Programs, tmp_path: Path) -> Claude:
    return Claude(programs.claude, tmp_path)


def test_it_says_what_the_model_says(
    claude: Claude, policy: str, behind: Gateways, provider: FakeProvider
) -> None:
    assert claude(behind.urls[policy], PLAN["prompt"])[-1]["result"] == expected(policy, SAID)
    assert all(each.body["stream"] for each in provider.requests)


def test_it_runs_what_it_may_and_never_sees_the_rest(
    claude: Claude, policy: str, behind: Gateways, provider: FakeProvider, tmp_path: Path
) -> None:
    events = claude(behind.urls[policy], USE_TOOLS, "--allowedTools", "Bash")
    assert events[-1]["result"] == expected(policy, FINAL)
    assert {each.name for each in tmp_path.glob("*.txt")} == left_behind(policy)
    assert (SECRET in json.dumps(events)) is (policy != "blocks")
    # neither does it stand in the history that comes back
    assert any(SECRET.encode() in each.raw for each in provider.requests) is (policy != "blocks")


def test_it_reads_recorded_traffic(claude: Claude, policy: str, behind: Gateways) -> None:
    for each in recorded("anthropic.messages", stream=True, most=2):
        header = {"ANTHROPIC_CUSTOM_HEADERS": f"x-luthien-recording: {each.id}"}
        events = claude(behind.urls[policy], PLAN["prompt"], "--model", "recorded", **header)
        assert events[-1]["result"].strip() == expected(policy, each.text).strip()


@pytest.fixture
def faltering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    """A provider whose streams end in an error: Claude Code then asks for the whole."""

    def falters(asked: Asked) -> Script:
        return Script().error(message="Overloaded") if asked.body.get("stream") else answer(asked)

    with gateways(tmp_path_factory.mktemp("faltering"), FakeProvider(falters), ["blocks"]) as found:
        yield found


def test_what_it_asks_for_once_more_without_a_stream_is_guarded_too(
    claude: Claude, faltering: Gateways, tmp_path: Path
) -> None:
    events = claude(faltering.urls["blocks"], USE_TOOLS, "--allowedTools", "Bash")
    assert events[-1]["result"] == FINAL
    assert {each.name for each in tmp_path.glob("*.txt")} == left_behind("blocks")
    assert SECRET not in json.dumps(events)
    assert {bool(each.body.get("stream")) for each in faltering.provider.requests} == {True, False}
    assert faltering.provider.complaints == []
