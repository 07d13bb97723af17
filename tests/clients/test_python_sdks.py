"""openai, anthropic, LangChain and litellm, whose scripts stand in `scripts/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthien_guard.testing.provider import FakeProvider
from tests.clients.gateway import Gateways
from tests.clients.playing import SCRIPTS, check, play
from tests.clients.programs import PYTHON, Programs

pytestmark = pytest.mark.clients

CLIENTS = [
    ("openai_chat", "openai.chat"),
    ("openai_responses", "openai.responses"),
    ("anthropic_messages", "anthropic.messages"),
    ("langchain_openai_chat", "openai.chat"),
    ("langchain_openai_chat", "openai.responses"),
]


@pytest.mark.parametrize(("script", "wire_format"), CLIENTS)
def test_an_sdk_goes_on_working(
    script: str, wire_format: str, policy: str, programs: Programs, behind: Gateways, provider: FakeProvider,
    tmp_path: Path,
) -> None:  # fmt: skip
    command = [programs.python, SCRIPTS / f"{script}.py"]
    found = play(command, tmp_path, behind.urls[policy], wire_format)
    check(found, policy, wire_format)
    assert {each.wire_format for each in provider.requests} == {wire_format}


@pytest.mark.parametrize("wire_format", ["openai.chat", "anthropic.messages"])
def test_litellm_goes_on_working(
    wire_format: str, policy: str, behind: Gateways, provider: FakeProvider, tmp_path: Path
) -> None:
    found = play([PYTHON, SCRIPTS / "litellm_completion.py"], tmp_path, behind.urls[policy], wire_format)
    check(found, policy, wire_format)
    assert {each.wire_format for each in provider.requests} == {wire_format}
