"""Nobody reaches a door that is meant for this machine, and no key opens more than its scopes."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard.config.settings import GuardConfig
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.auth import Principal
from luthien_guard.gateway.hosts import LoopbackOnly, check_binding, is_loopback
from luthien_guard.gateway.scopes import scope_refusal


@pytest.mark.parametrize(
    ("host", "is_so"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("2130706433", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, is_so: bool) -> None:
    assert is_loopback(host) is is_so


OWN_KEY = {"litellm": {}, "api_key": "sk-1"}


@pytest.mark.parametrize(
    ("host", "mode", "upstreams", "opens"),
    [
        ("127.0.0.1", "off", [OWN_KEY], True),
        ("0.0.0.0", "off", [], False),
        ("0.0.0.0", "client_key", [OWN_KEY], True),
        ("0.0.0.0", "passthrough", [{"native": "openai.chat"}], True),
        ("0.0.0.0", "passthrough", [OWN_KEY], False),
        ("0.0.0.0", "both", [OWN_KEY], False),
        (
            "gateway.internal",
            "passthrough",
            [{"native": "openai.chat", "headers": {"x-api-key": "k"}}],
            False,
        ),
        ("::", "passthrough", [{"litellm": {"vertex_credentials": "k"}}], False),
        ("::", "passthrough", [{"litellm": {"allowed_openai_params": ["x"]}}], True),
        ("::", "passthrough", [{"litellm": {"timeout": 30, "temperature": 0}}], True),
        ("::", "passthrough", [{"litellm": {"never_heard_of": 0}}], False),
    ],
)
def test_a_door_to_others_is_never_left_open(host: str, mode: str, upstreams: list[Any], opens: bool) -> None:
    given = {"auth": {"mode": mode}, "server": {"host": host}, "upstreams": upstreams}
    config = GuardConfig.model_validate(given)
    if opens:
        check_binding(config)
    else:
        with pytest.raises(ConfigError, match="client_key"):
            check_binding(config)


@pytest.mark.parametrize(("client", "status"), [(("127.0.0.1", 1), 200), (("10.0.0.9", 1), 403), (None, 200)])
async def test_off_answers_its_own_machine_only(client: Any, status: int) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    await LoopbackOnly(app)({"type": "http", "path": "/", "client": client}, send, send)
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("scopes", "path", "opens"),
    [
        ({"*"}, "/anything", True),
        ((), "/v1/messages", True),
        ({"messages"}, "/v1/messages", True),
        ({"messages"}, "/v1/messages/count_tokens", True),
        ({"messages"}, "/v1/messagesX", False),
        ({"messages"}, "/v1/responses", False),
        ({"messages", "responses"}, "/v1/responses/resp_1", True),
        ({"chat"}, "/v1/files", False),
        ({"chat"}, "/metrics", False),
        ({"metrics"}, "/metrics", True),
        ({"unheard-of"}, "/v1/messages", False),
    ],
)
def test_scopes_open_paths(scopes: Any, path: str, opens: bool) -> None:
    refusal = scope_refusal(Principal("k", scopes=frozenset(scopes)), {"path": path})
    assert (refusal is None) is opens


def test_scopes_are_about_the_gateways_own_paths_where_it_is_mounted() -> None:
    principal = Principal("k", scopes=frozenset({"chat"}))
    mounted = {"path": "/llm/v1/chat/completions", "root_path": "/llm"}
    assert scope_refusal(principal, mounted) is None
    assert scope_refusal(principal, {"path": "/llm/v1/messages", "root_path": "/llm"}) is not None


@pytest.mark.parametrize(
    ("path", "opens"),
    [
        ("/metrics", False),
        ("/openapi.json", False),
        ("/v1/messages", True),
        ("/v1/models", True),
        ("/v1/embeddings", True),
    ],
)
def test_what_the_gateway_tells_of_itself_needs_a_key_where_there_are_keys(path: str, opens: bool) -> None:
    stranger = Principal(vouched_for=False)
    refusal = scope_refusal(stranger, {"path": path})
    assert (refusal is None) is opens
    assert refusal is None or (refusal.status, refusal.code) == (401, "missing_api_key")
    mounted = {"path": "/llm" + path, "root_path": "/llm"}
    assert (scope_refusal(stranger, mounted) is None) is opens
    assert scope_refusal(Principal(), {"path": path}) is None
