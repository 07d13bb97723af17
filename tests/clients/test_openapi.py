"""schemathesis against what the gateway says of itself, with keys of its own in front and the strict provider behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luthien_guard.testing.provider import FakeProvider, serving
from tests.cli.processes import run as run_cli
from tests.cli.processes import served
from tests.clients.playing import run
from tests.clients.programs import Programs
from tests.clients.scenario import POLICIES, answer

pytestmark = pytest.mark.clients

_CONFIG = """\
policies: {policies}
auth: {{mode: client_key}}
upstreams:
  - {{match: "*", native: anthropic.messages, base_url: "{provider}", api_key: any}}
  - {{match: "*", native: [openai.chat, openai.responses], base_url: "{provider}/v1", api_key: any}}
"""
#: What a provider takes beyond what the guard reads is the provider's to say: a body that fits the description may be
#: refused behind the gateway, and one that does not may be taken.
_NOT_OURS = "positive_data_acceptance,negative_data_rejection"
_SECONDS = "30"


def test_the_gateway_is_as_it_describes_itself(programs: Programs, tmp_path: Path) -> None:
    pepper = {"LUTHIEN_PEPPER": "pepper" * 8}
    config = tmp_path / "guard.yaml"
    with serving(FakeProvider(answer)) as provider:
        config.write_text(_CONFIG.format(policies=POLICIES["blocks"], provider=provider))
        made = run_cli(tmp_path, "keys", "--config", str(config), "create", "--name", "me", **pepper)
        key = made.stdout.split()[-1]
        with served(tmp_path, config, **pepper) as gateway:
            gateway.headers["authorization"] = f"Bearer {key}"
            status, body = gateway.get("/openapi.json")
            assert status == 200 and json.loads(body)["openapi"] == "3.1.0"
            options = ["-H", f"Authorization: Bearer {key}", "--max-time", _SECONDS, "--seed", "1"]
            options += ["--exclude-checks", _NOT_OURS, "--suppress-health-check", "all", "--warnings", "off"]
            program = programs.schemathesis
            done = run([program, "run", f"{gateway.url}/openapi.json", *options], tmp_path)
            assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
            assert "Traceback" not in gateway.logged()
