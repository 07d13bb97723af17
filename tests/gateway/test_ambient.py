"""What litellm finds in the host's environment is for those who may use it, and for nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.config.load import Loaded
from luthien_guard.config.origin import Origins
from luthien_guard.config.settings import GuardConfig, UpstreamSettings
from luthien_guard.gateway.authentication import Passthrough
from luthien_guard.gateway.factory import application_of
from luthien_guard.gateway.upstreams.providers import TAKE_KEY, Ambient, wide_credential
from luthien_guard.gateway.upstreams.types import Call, UpstreamError
from tests.gateway.harness import FORMATS, gateway

ROOT = Path(__file__).parents[2]


def test_no_credential_of_the_host_leaves_for_a_stranger() -> None:
    """A host with a marked one of every kind is asked for every provider that litellm knows, today's litellm: which
    strangers may ask is a list, and what is not on it is refused before anything is sent. Some 25 seconds of a processor,
    half of them litellm's imports."""
    asked = subprocess.run(
        [sys.executable, "-m", "tests.gateway.canaries"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=280,
        check=True,
    )
    found = json.loads(asked.stdout)
    assert found["leaks"] == []
    assert not TAKE_KEY - set(found["reached"])  # or it says nothing about them
    assert len(found["providers"]) > 100
    assert set(found["refused"]) >= set(found["providers"]) - TAKE_KEY


# --- whom it is for ---------------------------------------------------------------------------------------------------

BEDROCK = "bedrock/anthropic.claude-3-haiku-20240307-v1:0"


def refused(asked: str, *, ambient: bool = False, key: str | None = "k", **settings: Any) -> bool:
    given = UpstreamSettings(**{"litellm": {}, **settings})
    call = Call("openai.chat", "POST", "/v1/chat/completions", b"", [], b"", asked, ambient=ambient)
    arguments = {**(given.litellm or {}), "model": given.model or asked, "api_key": key}
    try:
        Ambient(given).check(call, arguments)
    except UpstreamError as error:
        return (error.status, error.code) == (403, "credential_not_forwardable")
    return False


@pytest.mark.parametrize(
    "model",
    [
        *(
            BEDROCK,
            BEDROCK.partition("/")[2],
            "sagemaker_nova/x",
            "watsonx_text/x",
            "ollama_chat/x",
            "lemonade/x",
        ),
        *("gdc/x", "github_copilot/x", "litellm_proxy/x"),
    ],
)
@pytest.mark.parametrize(
    "arguments", [{}, {"timeout": 30}, {"temperature": 0}, {"aws_region_name": "us-east-1"}], ids=str
)
def test_arguments_that_are_no_credential_open_nothing(model: str, arguments: dict[str, Any]) -> None:
    assert refused(model, litellm=arguments)
    assert not refused(model, litellm=arguments, ambient=True)


@pytest.mark.parametrize(
    ("settings", "opens"),
    [
        ({"match": "bedrock/*"}, False),
        ({"model": BEDROCK}, False),
        ({"api_key": "k"}, False),
        ({"litellm": {"aws_access_key_id": "k"}}, False),
        ({"api_key": "k", "match": ["bedrock/*", "claude-*"]}, False),
        ({"litellm": {"custom_llm_provider": "bedrock"}}, False),
        ({"api_key": "k", "match": "bedrock/*"}, True),
        ({"api_key": "k", "model": BEDROCK}, True),
        ({"headers": {"Authorization": "Bearer k"}, "model": BEDROCK}, True),
        ({"litellm": {"aws_access_key_id": "k"}, "model": BEDROCK}, True),
    ],
    ids=str,
)
def test_a_deployer_who_names_the_provider_and_brings_a_credential_means_it(
    settings: dict[str, Any], opens: bool
) -> None:
    assert refused(BEDROCK, **settings) is not opens


def test_an_address_whose_provider_litellm_knows_is_asked_with_the_caller_s_key() -> None:
    assert not refused("groq/x", base_url="https://api.groq.com/openai/v1")
    assert not refused("gpt-4o")


def test_without_a_key_the_one_in_the_environment_would_be_used() -> None:
    unknown = {"litellm": {"organization": "o"}}  # which may lead to a credential, or not
    for settings in (unknown, {**unknown, "model": "openai/gpt-4o"}):
        assert refused("openai/gpt-4o", key=None, **settings)
        assert not refused("openai/gpt-4o", **settings)


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_stranger_is_told_in_the_client_s_words(wire_format: str) -> None:
    with gateway([UpstreamSettings(litellm={"timeout": 30})], auth=Passthrough()) as gate:
        answer = gate.model(wire_format, model="sagemaker_nova/x", stream=False)
        assert answer.status == 403
        assert "the host's own credential" in answer.json["error"]["message"]
        assert gate.model(wire_format, model="unheard-of/x", stream=False).status == 400


# --- a credential that goes wherever a client likes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "wide"),
    [
        ({"api_key": "k"}, True),
        ({"api_key": "k", "match": ["claude-*", "open*"]}, True),
        ({"headers": {"Authorization": "Bearer k"}}, True),
        ({"litellm": {"aws_secret_access_key": "k"}}, True),
        ({}, False),
        ({"litellm": {"timeout": 3}}, False),
        ({"api_key": "k", "match": "openai/*"}, False),
        ({"api_key": "k", "match": ["claude-*", "gpt-*", "groq/[a-c]*"]}, False),
        ({"api_key": "k", "match": "gemini"}, False),
        ({"api_key": "k", "model": "openai/gpt-4o"}, False),
        ({"api_key": "k", "base_url": "http://127.0.0.1:1"}, False),
        ({"api_key": "k", "litellm": {"custom_llm_provider": "groq"}}, False),
    ],
)
def test_a_credential_that_goes_to_more_than_one_provider_is_warned_of(
    settings: dict[str, Any], wide: bool, caplog: pytest.LogCaptureFixture
) -> None:
    given = UpstreamSettings(**{"litellm": {}, **settings})
    assert (wide_credential(given) is not None) is wide
    application_of(Loaded(GuardConfig(upstreams=[given]), Origins()))
    assert ("number 1: match" in caplog.text) is wide


def test_only_litellm_sends_a_key_to_others() -> None:
    assert wide_credential(UpstreamSettings(native="openai.chat", api_key="k")) is None
