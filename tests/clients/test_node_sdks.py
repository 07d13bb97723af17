"""openai and @anthropic-ai/sdk on Node, whose scripts stand in `scripts/`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from luthien_guard.testing.provider import FakeProvider
from tests.clients.gateway import Gateways
from tests.clients.playing import SCRIPTS, check, play
from tests.clients.programs import Programs

pytestmark = pytest.mark.clients

CLIENTS = [
    ("openai_chat", "openai.chat"),
    ("openai_responses", "openai.responses"),
    ("anthropic_messages", "anthropic.messages"),
]


@pytest.mark.parametrize(("script", "wire_format"), CLIENTS)
def test_an_sdk_goes_on_working(
    script: str, wire_format: str, policy: str, programs: Programs, behind: Gateways, provider: FakeProvider,
    tmp_path: Path,
) -> None:  # fmt: skip
    # Node looks for packages above the script, and for nothing else
    (tmp_path / "node_modules").symlink_to(programs.npm_sdks / "node_modules")
    for name in ("plan.mjs", f"{script}.mjs"):
        shutil.copy(SCRIPTS / name, tmp_path)
    found = play([programs.node, tmp_path / f"{script}.mjs"], tmp_path, behind.urls[policy], wire_format)
    check(found, policy, wire_format)
    assert {each.wire_format for each in provider.requests} == {wire_format}
