"""What the gateway serves, whom it lets in, and what it turns away."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from luthien_guard import Block, Policy, hookimpl
from luthien_guard.config.settings import ServerSettings, UpstreamSettings
from luthien_guard.gateway import create_app
from luthien_guard.gateway.auth import Principal, Refusal
from luthien_guard.guard import Guard
from luthien_guard.testing import Script
from luthien_guard.testing.provider import FakeProvider, Played, serving
from tests.gateway.harness import POLICIES, Gateway, gateway, gateway_to, native, request


class NoBombs(Policy):
    """Refuses a request that says so, and an answer."""

    @hookimpl
    def on_request_started(self, request: Any) -> Any:
        return Block("no bombs") if "bomb" in str(request.raw) else None

    @hookimpl
    def on_content_completed(self, content: Any) -> Any:
        return Block("no bombs") if "bomb" in content.text else None


COUNT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "how many"}]}


def test_tokens_are_counted_and_the_request_is_policed() -> None:
    provider = FakeProvider()
    with gateway_to(provider, [NoBombs()]) as gate:
        fine = gate.ask("/v1/messages/count_tokens?beta=true", COUNT)
        assert fine.status == 200 and fine.json["input_tokens"] > 0
        gate.ask("/v1/messages/count_tokens", {**COUNT, "system": "a bomb"})
        gate.ask("/v1/responses/input_tokens", {"model": "m", "input": "a bomb"})
    assert len(provider.requests) == 1
    assert provider.requests[0].path == "/v1/messages/count_tokens"


def test_what_the_upstream_keeps_is_policed_on_its_way_back() -> None:
    provider = FakeProvider(Script().text("plain"), Script().text("a bomb"))
    with gateway_to(provider) as open_gate:
        id = open_gate.model("openai.responses", stream=False).json["id"]
        kept = open_gate.ask(f"/v1/responses/{id}", method="GET")
        assert kept.json["id"] == id
        items = open_gate.ask(f"/v1/responses/{id}/input_items?limit=3", method="GET")
        assert items.json["data"][0]["content"] == "hello"
        assert provider.requests[-1].query == b"limit=3"
        assert open_gate.ask(f"/v1/responses/{id}/cancel", b"").status == 400
        assert open_gate.ask(f"/v1/responses/{id}", method="DELETE").json["deleted"] is True
        assert open_gate.ask(f"/v1/responses/{id}", method="GET").status == 404
    with serving(provider) as url, gateway([native(url)], [NoBombs()]) as gate:
        direct = Gateway(url, gate.guard, None)
        id = direct.model("openai.responses", stream=False).json["id"]
        assert b"a bomb" in direct.ask(f"/v1/responses/{id}", method="GET").body
        assert b"a bomb" not in gate.ask(f"/v1/responses/{id}", method="GET").body


def test_an_id_that_is_none_never_goes_up() -> None:
    provider = FakeProvider()
    with gateway_to(provider) as gate:
        for id in ("..", "a%2Fb", "%2e%2e", "a%3Fb", "-", "a" * 600):
            assert gate.ask(f"/v1/responses/{id}", method="GET").status in (400, 403, 404), id
    assert not provider.requests and not provider.complaints


@pytest.mark.parametrize("policies", POLICIES)
def test_what_is_deleted_may_leave_nothing_to_say(policies: str) -> None:
    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with gateway_to(upstream, POLICIES[policies]) as gate:
        answer = gate.ask("/v1/responses/resp_1", method="DELETE")
    assert (answer.status, answer.body) == (204, b"")


def test_models_come_from_every_upstream_that_may_be_asked() -> None:
    first, second, other = (FakeProvider(models=[name]) for name in ("gpt-a", "gpt-b", "claude-c"))
    with serving(first) as a, serving(second) as b, serving(other) as c:
        upstreams = [
            UpstreamSettings(native="openai.chat", base_url=a + "/v1"),
            # No key: not asked with that of the first.
            UpstreamSettings(native="openai.chat", base_url=b + "/v1"),
            UpstreamSettings(native="anthropic.messages", base_url=c, api_key="k", match="claude-*"),
            UpstreamSettings(match=["demo-x", "demo-*"], litellm={}),
        ]
        with gateway(upstreams) as gate:
            listed = gate.ask("/v1/models", method="GET").json
            shown = gate.ask("/v1/models", method="GET", headers={"anthropic-version": "2023-06-01"}).json
    assert {each["id"] for each in listed["data"]} == {"gpt-a", "claude-c", "demo-x"}
    assert {each["object"] for each in listed["data"]} == {"model"}
    assert {each["id"] for each in shown["data"]} == {"claude-c", "demo-x"}
    assert {each["type"] for each in shown["data"]} == {"model"}


def listing(data: Any) -> Any:
    """An upstream whose list of models is this."""

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        start = {"status": 200, "headers": [(b"content-type", b"application/json")]}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": data if isinstance(data, bytes) else dumps(data)})

    return upstream


def dumps(data: Any) -> bytes:
    return json.dumps({"object": "list", "data": data}).encode()


@pytest.mark.parametrize("version", [{}, {"anthropic-version": "2023-06-01"}])
@pytest.mark.parametrize(
    "data",
    [5, "abc", {"a": 1}, None, b"no JSON", b"[1, 2]", b"", b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)
def test_a_list_of_models_that_is_none_stands_for_its_upstream_alone(
    data: Any, version: dict[str, str]
) -> None:
    with serving(FakeProvider(models=["gpt-a"])) as fine, serving(listing(data)) as odd:
        upstreams = [native(fine, name="fine", api_key="k"), native(odd, name="odd", api_key="k")]
        with gateway(upstreams) as gate:
            answer = gate.ask("/v1/models", method="GET", headers=version)
    assert answer.status == 200
    assert [each["id"] for each in answer.json["data"]] == ["gpt-a"]
    assert answer.headers["x-luthien-incomplete"] == "odd"


@pytest.mark.parametrize("version", [{}, {"anthropic-version": "2023-06-01"}])
def test_what_is_no_model_is_left_out_of_the_list(version: dict[str, str]) -> None:
    odd = [{"foo": 1}, {"id": None}, {"id": {"x": 1}}, {"id": ""}, {"id": 5}, "gpt-b", None, {"id": "gpt-c"}]
    with serving(listing(odd)) as url, gateway([native(url, api_key="k")]) as gate:
        answer = gate.ask("/v1/models", method="GET", headers=version)
    assert [each["id"] for each in answer.json["data"]] == ["gpt-c"]
    assert "x-luthien-incomplete" not in answer.headers


def test_health_says_whether_it_is_well() -> None:
    with gateway_to(FakeProvider()) as gate:
        for path in ("/health", "/health/live", "/health/ready"):
            answer = gate.ask(path, method="GET", headers={"authorization": ""})
            assert (answer.status, answer.json["status"]) == (200, "ok")


def test_metrics_count_answers_failures_and_refusals() -> None:
    busy = Played([b'{"error":{}}'], 429, stream=False)
    with gateway_to(FakeProvider(Script().text("Hi"), busy)) as gate:
        gate.model("openai.chat")
        gate.model("openai.chat")
        gate.ask("/v1/embeddings", {})
        text = gate.ask("/metrics", method="GET").body.decode()
    assert 'answers_total{status="200",upstream="native-1",wire_format="openai.chat"} 1.0' in text
    assert 'answers_total{status="429",upstream="native-1",wire_format="openai.chat"} 1.0' in text
    assert 'refusals_total{why="path_denied"} 1.0' in text
    assert 'in_flight{wire_format="openai.chat"} 0.0' in text


def test_metrics_of_several_workers_say_whose_each_number_is() -> None:
    with gateway_to(FakeProvider(), server=ServerSettings(workers=2)) as gate:
        for _ in range(2):  # the label is put there once
            gate.model("openai.chat")
            numbers = [
                line
                for line in gate.ask("/metrics", method="GET").body.decode().splitlines()
                if not line.startswith("#")
            ]
    assert any(line.startswith("luthien_gateway_answers_total{") for line in numbers)
    assert all(line.count(f'worker="{os.getpid()}"') == 1 for line in numbers)


def test_metrics_can_be_left_out() -> None:
    with gateway_to(FakeProvider(), server=ServerSettings(metrics=False)) as gate:
        assert gate.ask("/metrics", method="GET").status == 404


def test_other_paths_are_denied() -> None:
    provider = FakeProvider()
    with gateway_to(provider) as gate:
        for path in ("embeddings", "completions", "audio/speech", "responses/compact", "responses/a/b/c", ""):
            assert gate.ask(f"/v1/{path}", {}).status in (403, 404, 405), path
    assert not provider.requests and not provider.complaints


@pytest.mark.parametrize("mode", ["observe", "pass"])
def test_other_paths_pass_where_the_deployer_says_so(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": b'{"data":[]}'})

    with gateway_to(upstream, server=ServerSettings(unknown_paths=mode)) as gate:
        assert gate.ask("/v1/embeddings", {"model": "m"}).json == {"data": []}
        assert gate.ask("/v1/a/../b", {"model": "m"}).status == 403
    assert seen == ["/v1/embeddings"]
    assert ("unguarded: POST /v1/embeddings" in caplog.text) is (mode == "observe")


@pytest.mark.parametrize("policies", POLICIES)
@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "audio/mpeg", b"ID3\x00\x01\xff"),
        (200, "application/jsonl", b'{"a":1}\n{"a":2}\n'),
        (200, "application/json; charset=utf-8", b'{"a":1}'),
        (404, "text/html", b"<html>not here</html>"),
        (200, "text/event-stream", b"data: words\n\ndata: more"),
        (200, "application/json", b""),
    ],
)
def test_what_passes_unseen_comes_back_as_it_came(status: int, kind: str, body: bytes, policies: str) -> None:
    played = {"content-type": kind, "content-length": str(len(body))}

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.encode(), value.encode()) for name, value in played.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with gateway_to(upstream, POLICIES[policies], server=ServerSettings(unknown_paths="pass")) as gate:
        answer = gate.ask("/v1/audio/speech", {"model": "m"})
    assert (answer.status, answer.headers["content-type"], answer.body) == (status, kind, body)


def test_batches_and_odd_spellings_are_refused_whatever_the_mode() -> None:
    provider = FakeProvider()
    with gateway_to(provider, [NoBombs()], server=ServerSettings(unknown_paths="pass")) as gate:
        for path in (
            "/v1/messages/batches",
            "/v1//messages",
            "/v1/messages/",
            "/V1/Messages",
            "/v1/messages%2f",
        ):
            answer = gate.ask(
                path, request("anthropic.messages", messages=[{"role": "user", "content": "bomb"}])
            )
            assert answer.status >= 400 or b"Blocked" in answer.body, path
    assert not provider.requests


HOSTS: list[tuple[dict[str, str], int]] = [
    ({"host": "localhost:8000"}, 200),
    ({"host": "127.0.0.1"}, 200),
    ({"host": "[::1]:8000"}, 200),
    ({"host": "api.example.org"}, 200),
    ({"host": "a.example.com"}, 200),
    ({"host": "evil.test"}, 421),
    ({"host": "example.com"}, 421),
    ({"host": "localhost.evil.test"}, 421),
    ({"host": "localhost@evil.test"}, 421),
    ({"host": ""}, 421),
    ({"origin": "http://localhost:3000"}, 200),
    ({"origin": "https://evil.test"}, 403),
    ({"origin": "null"}, 403),
]


def test_hosts_and_origins() -> None:
    server = ServerSettings(allowed_hosts=["api.example.org", "*.example.com"])
    with gateway_to(FakeProvider(), server=server) as gate:
        for headers, status in HOSTS:
            assert (
                gate.ask("/v1/chat/completions", request("openai.chat"), headers=headers).status == status
            ), headers


class ByKey:
    """Lets in whoever knows the word; what is in the header is no provider's credential."""

    async def admit(self, headers: Sequence[tuple[bytes, bytes]]) -> Principal | Refusal:
        key = dict(headers).get(b"authorization", b"")
        if key == b"Bearer good":
            return Principal("somebody", forwards_credential=False)
        if key == b"Bearer busy":
            return Refusal(429, "rate_limited", "too many", retry_after=2.2)
        return Refusal(401, "invalid_api_key", "this key is not known")


@pytest.mark.parametrize("policies", POLICIES)
def test_who_may_not_come_in_costs_nothing_and_keys_never_go_up(policies: str) -> None:
    provider = FakeProvider()
    with serving(provider) as url, gateway([native(url)], POLICIES[policies], auth=ByKey()) as gate:
        refused = gate.model("anthropic.messages")
        assert refused.status == 401 and refused.json["error"]["type"] == "authentication_error"
        assert refused.headers["www-authenticate"] == "Bearer"
        gate.headers["authorization"] = "Bearer busy"
        assert gate.model("openai.chat").headers["retry-after"] == "2"
        assert gate.ask("/metrics", method="GET").status == 429
        assert gate.ask("/health", method="GET").status == 200
        assert [gate.outcome_of(each) for each in gate.guard.recent_calls] == ["blocked", "blocked"]
        gate.headers["authorization"] = "Bearer good"
        assert gate.model("openai.chat").status == 401  # the upstream's: it saw no credential
    assert provider.complaints == [
        "You didn't provide an API key. You need to provide your API key in an Authorization header."
    ]


def test_it_may_be_mounted() -> None:
    provider = FakeProvider(Script().text("mounted"))
    with serving(provider) as url:
        inner = create_app(Guard([NoBombs()]), [native(url)])
        # a mount has no lifespan of its own: the host's runs it
        outer = Starlette(
            routes=[Mount("/llm", inner)], lifespan=lambda _: inner.router.lifespan_context(inner)
        )
        with serving(outer, lifespan=True) as place:
            gate = Gateway(place, Guard(), inner)
            fine = gate.ask("/llm/v1/chat/completions", request("openai.chat", stream=False))
            blocked = gate.ask("/llm/v1/chat/completions", request("openai.chat", user="bomb"))
    assert fine.json["choices"][0]["message"]["content"] == "mounted"
    assert b"Blocked" in blocked.body
    assert [each.path for each in provider.requests] == ["/v1/chat/completions"]


def test_a_websocket_is_told_to_come_back_over_http() -> None:
    with (
        gateway_to(FakeProvider()) as gate,
        socket.create_connection(("127.0.0.1", gate.port), timeout=60) as raw,
    ):
        raw.sendall(
            b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nauthorization: Bearer k\r\n\r\n"
        )
        status = int(raw.recv(4096).split(b" ", 2)[1])
    assert status >= 400
