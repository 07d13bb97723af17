"""A caller's credential is for one provider: no other place is shown it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway import create_app
from luthien_guard.gateway.auth import Anyone
from luthien_guard.guard import Guard
from luthien_guard.testing import Script
from luthien_guard.testing.provider import FakeProvider, Played, serving
from tests.gateway.harness import Answer, Gateway, gateway

GOOD = Script().text("Here.")
BUSY = Played([b'{"error":{"message":"busy"}}'], 503, stream=False)
CHAT: dict[str, Any] = {"native": "openai.chat"}


class House:
    """A provider, and the headers of everything that it was asked."""

    def __init__(self, answer: Any) -> None:
        self._provider = FakeProvider(answer)
        self.heard: list[dict[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await self._provider(scope, receive, send)

    @property
    def credentials(self) -> list[tuple[str | None, str | None]]:
        return [(each.get("authorization"), each.get("x-api-key")) for each in self.heard]


@contextmanager
def houses(*answers: Any) -> Iterator[list[tuple[House, str]]]:
    """Providers, each at its own address."""
    made = [House(each) for each in answers]
    with ExitStack() as opened:
        yield [(each, opened.enter_context(serving(each)) + "/v1") for each in made]


def events(gate: Gateway, answer: Answer) -> list[str]:
    records = gate.guard.records_of(answer.headers["x-luthien-call-id"])
    return [each.details["event"] for each in records if "event" in each.details]


# --- fallbacks --------------------------------------------------------------------------------------------------------

A: dict[str, Any] = {**CHAT, "base_url": "http://a/v1", "name": "a"}
B: dict[str, Any] = {**CHAT, "base_url": "http://b/v1", "name": "b", "api_key": "k"}
C: dict[str, Any] = {**CHAT, "base_url": "http://b/v1", "name": "c"}
LIT: dict[str, Any] = {"litellm": {}, "name": "lit"}
REPLAY: dict[str, Any] = {"replay": "x", "name": "replay"}


@pytest.mark.parametrize(
    "upstreams",
    [
        pytest.param([{**A, "fallback": ["c"]}, C], id="another host"),
        pytest.param([{**A, "fallback": ["b"]}, {**B, "fallback": ["c"]}, C], id="two steps away"),
        pytest.param([{**LIT, "fallback": ["c"]}, C], id="from litellm, which may be anywhere"),
        pytest.param(
            [{**LIT, "base_url": "http://a/v1", "fallback": ["c"]}, C], id="from litellm at another host"
        ),
        pytest.param([{**REPLAY, "fallback": ["a"]}, {**A, "fallback": ["c"]}, C], id="behind a recording"),
        pytest.param(
            [{**A, "fallback": ["c"]}, {**C, "headers": {"X-Team": "blue"}}],
            id="a header that is no credential",
        ),
    ],
)
def test_a_fallback_that_would_be_shown_another_s_credential_is_an_error(upstreams: list[Any]) -> None:
    with pytest.raises(ConfigError, match="credential"):
        create_app(Guard(), [UpstreamSettings(**each) for each in upstreams])


@pytest.mark.parametrize(
    "upstreams",
    [
        pytest.param([{**A, "fallback": ["b"]}, B], id="a key of its own"),
        pytest.param([{**A, "fallback": ["c"]}, {**C, "base_url": "http://a/other"}], id="the same host"),
        pytest.param(
            [{**A, "fallback": ["c"]}, {**C, "headers": {"Authorization": "Bearer k"}}],
            id="a key as a header",
        ),
        pytest.param([{**REPLAY, "fallback": ["a"]}, A], id="a recording is shown nothing"),
        pytest.param([{**A, "fallback": ["lit"]}, LIT], id="litellm, which may find one"),
        pytest.param(
            [{**LIT, "base_url": "http://b/v1", "fallback": ["c"]}, C], id="litellm at the same host"
        ),
    ],
)
def test_other_fallbacks_are_none(upstreams: list[Any]) -> None:
    create_app(Guard(), [UpstreamSettings(**each) for each in upstreams])


def spare(url: str, **more: Any) -> UpstreamSettings:
    given = {"match": "none", "name": "spare", "litellm": {}, "model": "openai/gpt-4o", "base_url": url}
    return UpstreamSettings(**{**given, **more})


def test_litellm_behind_another_host_is_not_asked_with_the_caller_s_credential() -> None:
    with (
        houses(BUSY, GOOD) as ((first, a), (second, b)),
        gateway([UpstreamSettings(**CHAT, base_url=a, fallback=["spare"]), spare(b)]) as gate,
    ):
        answer = gate.model("openai.chat", stream=False)
        assert "upstream.skipped" in events(gate, answer)
    assert answer.status == 503
    assert first.credentials == [("Bearer sk-caller", None)]
    assert not second.heard


def test_litellm_at_the_same_host_is() -> None:
    with (
        houses(BUSY) as ((only, url),),
        gateway([UpstreamSettings(**CHAT, base_url=url, fallback=["spare"]), spare(url)]) as gate,
    ):
        gate.model("openai.chat", stream=False)
    assert only.credentials == [("Bearer sk-caller", None)] * 2


def test_a_fallback_with_a_key_of_its_own_is_asked_with_it() -> None:
    with (
        houses(BUSY, GOOD) as ((_, a), (second, b)),
        gateway(
            [UpstreamSettings(**CHAT, base_url=a, fallback=["spare"]), spare(b, api_key="sk-own")]
        ) as gate,
    ):
        assert gate.model("openai.chat", stream=False).status == 200
    assert second.credentials == [("Bearer sk-own", None)]


def test_who_may_use_the_host_s_credentials_reaches_litellm_without_their_own() -> None:
    """As far as litellm itself, which finds none here."""
    first = UpstreamSettings(**CHAT, base_url="http://127.0.0.1:1/v1", fallback=["spare"])
    with (
        houses(GOOD) as ((second, b),),
        gateway([first, spare(b, litellm={"timeout": 5})], auth=Anyone()) as gate,
    ):
        answer = gate.model("openai.chat", stream=False)
        assert "upstream.skipped" not in events(gate, answer)
    assert "sk-caller" not in str(second.heard)


# --- a credential among the headers -----------------------------------------------------------------------------------

LITELLM: dict[str, Any] = {"litellm": {"timeout": 5}, "model": "openai/gpt-4o"}


@pytest.mark.parametrize("kind", [CHAT, LITELLM], ids=["native", "litellm"])
@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-Api-Key", "api-key", "x-goog-api-key"])
def test_a_credential_among_the_headers_is_the_only_one_sent(kind: dict[str, Any], name: str) -> None:
    with (
        houses(GOOD) as ((only, url),),
        gateway([UpstreamSettings(**kind, base_url=url, headers={name: "Bearer own"})]) as gate,
    ):
        gate.headers = {"x-api-key": "sk-caller", "authorization": "Bearer sk-caller"}
        gate.model("openai.chat", stream=False)
    (seen,) = only.heard
    assert seen[name.lower()] == "Bearer own"
    assert "sk-caller" not in str(seen)


def test_a_list_of_models_is_asked_for_with_one_credential() -> None:
    with houses(GOOD, GOOD) as ((first, a), (second, b)):
        upstreams = [
            UpstreamSettings(**CHAT, base_url=a, headers={"authorization": "Bearer own"}),
            UpstreamSettings(**CHAT, base_url=b),
        ]
        with gateway(upstreams) as gate:
            gate.headers = {"x-api-key": "sk-caller"}
            gate.ask("/v1/models", method="GET")
    assert first.credentials == [("Bearer own", None)]
    assert second.credentials == [(None, "sk-caller")]
