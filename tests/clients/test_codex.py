"""Codex, headless, through a provider of the user's own and through the built-in one, which asks for a WebSocket first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.testing.provider import FakeProvider
from tests.cli.processes import environment
from tests.clients.gateway import Gateways
from tests.clients.playing import run
from tests.clients.programs import Programs
from tests.clients.scenario import FINAL, PLAN, SAID, SECRET, USE_TOOLS, expected, left_behind, recorded

pytestmark = pytest.mark.clients

_COMMON = """\
model = "{model}"
check_for_update_on_startup = false
{provider}
[analytics]
enabled = false
"""
_OWN = """\
model_provider = "guard"
[model_providers.guard]
name = "guard"
base_url = "{url}/v1"
env_key = "GUARD_KEY"
wire_api = "responses"
"""
_BUILT_IN = 'openai_base_url = "{url}/v1"\n'


class Codex:
    """`codex exec` in a home that holds its configuration. Its options are those of a throw-away container."""

    def __init__(self, programs: Programs, home: Path) -> None:
        self._programs = programs
        self._home = home

    def __call__(
        self, url: str, prompt: str, *, provider: str = _OWN, model: str = "scripted-model",
        headers: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """The events that it prints."""
        (self._home / ".codex").mkdir(exist_ok=True)
        text = _COMMON.format(model=model, provider=provider.format(url=url))
        if headers:
            text += "[model_providers.guard.http_headers]\n" + "".join(
                f'{name} = "{value}"\n' for name, value in headers.items()
            )
        (self._home / ".codex" / "config.toml").write_text(text)
        path = f"{self._programs.node.parent}:{environment(self._home)['PATH']}"
        options = ["--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        command = [self._programs.codex, "exec", *options, "--", prompt]
        done = run(command, self._home, GUARD_KEY="any", CODEX_API_KEY="any", PATH=path)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def said(events: list[dict[str, Any]]) -> str:
    """The last thing that it told the user."""
    items = [each["item"] for each in events if each["type"] == "item.completed"]
    return str([each["text"] for each in items if each["type"] == "agent_message"][-1])


@pytest.fixture
def codex(programs: Programs, tmp_path: Path) -> Codex:
    return Codex(programs, tmp_path)


@pytest.mark.parametrize("through", [_OWN, _BUILT_IN], ids=["own", "built-in"])
def test_it_says_what_the_model_says(
    through: str, codex: Codex, policy: str, behind: Gateways, provider: FakeProvider
) -> None:
    events = codex(behind.urls[policy], PLAN["prompt"], provider=through)
    assert said(events) == expected(policy, SAID)
    # 426 to the WebSocket: it takes HTTP at once and asks once
    assert "Reconnecting" not in json.dumps(events)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("through", [_OWN, _BUILT_IN], ids=["own", "built-in"])
def test_it_runs_what_it_may_and_never_sees_the_rest(
    through: str, codex: Codex, policy: str, behind: Gateways, provider: FakeProvider, tmp_path: Path
) -> None:
    events = codex(behind.urls[policy], USE_TOOLS, provider=through)
    assert said(events) == expected(policy, FINAL)
    assert {each.name for each in tmp_path.glob("*.txt")} == left_behind(policy)
    assert (SECRET in json.dumps(events)) is (policy != "blocks")
    assert any(SECRET.encode() in each.raw for each in provider.requests) is (policy != "blocks")


def test_it_reads_recorded_traffic(codex: Codex, policy: str, behind: Gateways) -> None:
    for each in recorded("openai.responses", stream=True, most=2):
        headers = {"x-luthien-recording": each.id}
        events = codex(behind.urls[policy], PLAN["prompt"], model="recorded", headers=headers)
        assert said(events) == expected(policy, each.text)
