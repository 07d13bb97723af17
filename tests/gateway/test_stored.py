"""Answers kept under an id are found at the upstream that made them, and no credential is shown on the way."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.auth import Principal
from luthien_guard.testing import Script
from luthien_guard.testing.provider import FakeProvider, serving
from tests.gateway.harness import Gateway, gateway, request

CALLER = "Bearer sk-caller"
OWN = {"api_key": "sk-own"}


def keeper(url: str, match: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(match=match, native="openai.responses", base_url=url, **more)


@contextmanager
def two(
    first: Any, second: Any, *, own: tuple[dict[str, Any], dict[str, Any]] = ({}, OWN), **more: Any
) -> Generator[Gateway]:
    """A gateway before both: models a-* are the first one's, b-* the second one's."""
    with (
        serving(first) as a,
        serving(second) as b,
        gateway([keeper(a, "a-*", **own[0]), keeper(b, "b-*", **own[1])], **more) as gate,
    ):
        yield gate


def made(gate: Gateway, model: str) -> str:
    answer = gate.ask("/v1/responses", request("openai.responses", model=model, stream=False))
    assert answer.status == 200
    return str(answer.json["id"])


class Heard:
    """A provider, and the credential of everything that it was asked."""

    def __init__(self, text: str = "kept") -> None:
        self.provider = FakeProvider(Script().text(text))
        self.credentials: list[str | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            found = dict(scope["headers"]).get(b"authorization")
            self.credentials.append(found.decode() if found else None)
        await self.provider(scope, receive, send)


def providers() -> tuple[Heard, Heard]:
    return Heard("from a"), Heard("from b")


class Saying:
    """An upstream that answers everything with one status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.asked += 1
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"3600")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error":{"message":"first"}}'})


def test_each_is_found_where_it_was_made() -> None:
    a, b = providers()
    with two(a, b) as gate:
        for model, text in (("a-1", "from a"), ("b-1", "from b")):
            id = made(gate, model)
            path = f"/v1/responses/{id}"
            kept = gate.ask(path, method="GET")
            assert kept.status == 200 and text.encode() in kept.body
            assert gate.ask(f"{path}/input_items", method="GET").status == 200
            assert gate.ask(f"{path}/cancel", b"").status == 400  # the maker's: it is complete
            assert gate.ask(path, method="DELETE").json["deleted"] is True
            gone = gate.ask(path, method="GET")
            assert gone.status == 404 and "error" in gone.json


def test_the_first_that_has_it_is_the_last_that_is_asked() -> None:
    a, b = providers()
    with two(a, b) as gate:
        id = made(gate, "a-1")
        gate.ask(f"/v1/responses/{id}", method="GET")
    assert len(a.credentials) == 2 and not b.credentials


def test_the_caller_s_credential_goes_to_the_first_that_takes_it_and_to_no_other() -> None:
    a, b = providers()
    with two(a, b, own=({}, {})) as gate:
        id = made(gate, "b-1")  # a model is a choice; a search is none
        b.credentials.clear()
        answer = gate.ask(f"/v1/responses/{id}", method="GET")
        assert answer.status == 404
        records = gate.guard.records_of(answer.headers["x-luthien-call-id"])
    assert a.credentials == [CALLER] and not b.credentials
    assert any(each.details.get("event") == "upstream.skipped" for each in records)


def test_an_upstream_with_a_key_of_its_own_may_stand_before_or_behind() -> None:
    a, b = providers()
    with two(a, b, own=(OWN, {})) as gate:
        id = made(gate, "b-1")
        assert gate.ask(f"/v1/responses/{id}", method="GET").status == 200
    assert a.credentials == ["Bearer sk-own"] and b.credentials == [CALLER, CALLER]
    a, b = providers()
    with two(a, b, own=({}, OWN)) as gate:
        id = made(gate, "b-1")
        assert gate.ask(f"/v1/responses/{id}", method="GET").status == 200
    assert a.credentials == [CALLER] and b.credentials == ["Bearer sk-own"] * 2


def test_one_address_may_be_told_twice() -> None:
    provider = Heard()
    with serving(provider) as url, gateway([keeper(url, "a-*"), keeper(url + "/v1", "b-*")]) as gate:
        assert gate.ask("/v1/responses/resp_1", method="GET").status == 404
    assert provider.credentials == [CALLER, CALLER]


class Known:
    """Everybody has a key of the gateway."""

    async def admit(self, headers: Any) -> Principal:
        return Principal("somebody", forwards_credential=False)


def test_a_key_of_the_gateway_is_shown_to_none() -> None:
    a, b = providers()
    with two(a, b, own=({}, OWN), auth=Known()) as gate:
        id = made(gate, "b-1")
        assert gate.ask(f"/v1/responses/{id}", method="GET").status == 200
    assert a.credentials == [None] and b.credentials == ["Bearer sk-own"] * 2


@pytest.mark.parametrize(
    ("first", "second", "told", "asked"),
    [
        (404, 200, 200, 1),
        (401, 200, 200, 1),
        (405, 200, 200, 1),
        (503, 200, 200, 1),
        (404, 404, 404, 1),
        (503, 404, 503, 1),  # it may be the one that has it
        (404, 503, 503, 1),
        (401, 404, 401, 1),
        (405, 403, 403, 1),
        (503, 401, 503, 1),
        (400, 200, 400, 0),  # the maker's word
        (409, 200, 409, 0),
    ],
)
def test_who_does_not_have_it_leads_to_the_next(first: int, second: int, told: int, asked: int) -> None:
    a, b = Saying(first), Saying(second)
    with two(a, b) as gate:
        answer = gate.ask("/v1/responses/resp_1", method="GET")
        assert gate.outcome(answer) == ("success" if told == 200 else "upstream_error")
    assert (answer.status, a.asked, b.asked) == (told, 1, asked)


def test_an_upstream_that_is_away_is_not_one_that_has_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    other = Saying(404)
    with serving(other) as url, gateway([keeper(dead, "a-*"), keeper(url, "b-*", **OWN)]) as gate:
        answer = gate.ask("/v1/responses/resp_1", method="GET")
    assert (answer.status, answer.json["error"]["code"], other.asked) == (502, "upstream_unreachable", 1)


def test_nobody_keeps_answers() -> None:
    with gateway([UpstreamSettings(native="openai.chat", base_url="http://127.0.0.1:1/v1")]) as gate:
        assert gate.ask("/v1/responses/resp_1", method="GET").status == 404
