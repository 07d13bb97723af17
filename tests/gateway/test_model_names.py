"""A model's name goes into the URL at a litellm upstream: it names a model there, and no other place."""

from __future__ import annotations

import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.names import is_name
from luthien_guard.testing.provider import FakeProvider, serving
from tests.gateway.harness import FORMATS, gateway

ELSEWHERE = (
    *(
        "azure/../../../admin?x=",
        "gemini/../../v1/files?x=",
        "gemini/x#frag",
        "gemini/x?alt=sse",
        "azure/%2e%2e/x",
    ),
    *(
        "azure/..\\x",
        "azure/./x",
        "azure//x",
        "/x",
        "azure/",
        "azure/x y",
        "azure/x\n",
        "azure/..;/x",
        "azure/\x00",
    ),
    *("huggingface/http://127.0.0.1:9/x", "azure/\u2028x", "azure/\x85"),
)


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_name_that_leads_elsewhere_is_refused_in_the_client_s_words(wire_format: str) -> None:
    provider = FakeProvider()
    with (
        serving(provider) as url,
        gateway([UpstreamSettings(litellm={}, base_url=url, api_key="sk-own")]) as gate,
    ):
        for model in ELSEWHERE:
            answer = gate.model(wire_format, model=model, stream=False)
            assert answer.status == 400, model
            assert "error" in answer.json and "no model" in answer.json["error"]["message"]
    assert not provider.requests


def test_the_deployer_may_name_anything() -> None:
    """What a client says is not asked for then."""
    provider = FakeProvider()
    with (
        serving(provider) as url,
        gateway([UpstreamSettings(litellm={}, base_url=url + "/v1", model="openai/a b")]) as gate,
    ):
        assert gate.model("openai.chat", model="../x", stream=False).status == 200
    assert provider.requests[0].body["model"] == "a b"


def test_every_model_that_litellm_knows_has_a_name() -> None:
    import litellm

    names = {*litellm.model_list, *litellm.model_cost}
    assert len(names) > 1000
    assert [each for each in names if not is_name(each)] == []
    assert (
        is_name("ollama/llama3:8b")
        and is_name("vertex_ai/claude-opus-4@20250514")
        and is_name("ft:gpt-4:a::b")
    )
