"""Asking again and asking elsewhere: bounded, and only before the first byte."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- acts between two steps of the upstream's own loop
import json
import socket
import sys
from typing import Any, Final

import anyio
import pytest

from luthien_guard import Limits
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway import create_app
from luthien_guard.gateway.upstreams.native import NativeUpstream
from luthien_guard.gateway.upstreams.types import Call
from luthien_guard.guard import Guard
from luthien_guard.testing import Script
from luthien_guard.testing.provider import FakeProvider, Played, serving
from tests.gateway.harness import Wire, chunked, gateway, head, native, request

HEADERS: Final = [(b"authorization", b"Bearer sk-caller"), (b"content-type", b"application/json")]
GOOD = Script().text("Here.")
BUSY = Played([b'{"error":{"message":"busy"}}'], 529, stream=False, headers={"retry-after": "0"})
BAD = Played([b'{"error":{"message":"bad"}}'], 400, stream=False)
PATIENT = Played([b'{"error":{"message":"later"}}'], 429, stream=False, headers={"retry-after": "3600"})


def asked(provider: FakeProvider, **more: Any) -> tuple[int, int]:
    """(status, how often it was asked)."""
    with serving(provider) as url, gateway([native(url, **more)]) as gate:
        answer = gate.model("openai.chat")
    return answer.status, len(provider.requests)


@pytest.mark.parametrize(
    ("answers", "retries", "expected"),
    [
        ([BUSY, GOOD], 0, (529, 1)),
        ([BUSY, GOOD], 1, (200, 2)),
        ([BUSY, BUSY, GOOD], 1, (529, 2)),
        ([BAD, GOOD], 3, (400, 1)),
        ([PATIENT, GOOD], 3, (429, 1)),  # an hour is the client's to wait
        ([BUSY], 99, (529, 6)),  # five is the most
    ],
)
def test_passing_failures_are_asked_again(
    answers: list[Any], retries: int, expected: tuple[int, int]
) -> None:
    assert asked(FakeProvider(*answers), retries=retries) == expected


def test_a_stream_that_has_begun_is_never_asked_again() -> None:
    said = head(transfer_encoding="chunked") + chunked(b'data: {"id":"c","choices":[]}\n\n')
    with Wire(lambda connection, _: connection.sendall(said)) as wire:
        with gateway([native(wire.url, retries=3)]) as gate:
            gate.model("openai.chat")
        assert wire.connections == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="aiohttp writes at once there: nothing comes between")
def test_a_pooled_connection_that_closes_before_the_request_is_written_costs_nothing() -> None:
    async def twice() -> None:
        provider = FakeProvider(GOOD)
        call = Call(
            "openai.chat",
            "POST",
            "/v1/chat/completions",
            b"",
            HEADERS,
            json.dumps(request("openai.chat")).encode(),
        )
        with serving(provider) as url:
            upstream = NativeUpstream(native(url), "a", Limits())
            first = await upstream.ask(call)
            while await first.read():
                pass
            await first.aclose()
            (pooled,) = upstream._session.connector._conns.values()  # type: ignore[union-attr]
            transport = pooled[0][0].transport
            assert transport is not None
            asyncio.get_running_loop().call_soon(transport.close)
            second = await upstream.ask(call)
            assert second.status == 200
            await second.aclose()
            await upstream.stop()
        assert len(provider.requests) == 2

    anyio.run(twice, backend="asyncio")


def test_a_connection_that_is_refused_is_tried_again_and_then_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    provider = FakeProvider(GOOD)
    with serving(provider) as url:
        first = native(dead, retries=1, fallback=["spare"])
        with gateway(
            [first, native(url, name="spare", match="none", api_key="k", model="spare-model")]
        ) as gate:
            answer = gate.model("openai.chat")
            events = [
                r.details.get("event") for r in gate.guard.records_of(answer.headers["x-luthien-call-id"])
            ]
    assert answer.status == 200
    assert provider.requests[0].body["model"] == "spare-model"
    assert provider.requests[0].headers["authorization"] == "Bearer k"
    assert [each for each in events if each] == ["upstream.retry", "upstream.fallback", "upstream.answered"]


def test_when_all_fail_the_last_answer_is_the_one() -> None:
    first, second = FakeProvider(BUSY), FakeProvider(PATIENT)
    with serving(first) as a, serving(second) as b:
        upstreams = [
            native(a, name="one", api_key="k", fallback=["two"]),
            native(b, name="two", api_key="k", fallback=["one"]),
        ]
        with gateway(upstreams) as gate:
            answer = gate.model("openai.chat")
    assert (answer.status, answer.headers["retry-after"]) == (429, "3600")
    assert len(first.requests) == len(second.requests) == 1


def test_an_answer_with_a_status_says_more_than_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with serving(FakeProvider(PATIENT)) as url:
        upstreams = [native(url, name="one", fallback=["two"]), native(dead, name="two", api_key="k")]
        with gateway(upstreams) as gate:
            assert gate.model("openai.chat").status == 429


def test_failures_in_a_row_show_in_health_until_it_answers() -> None:
    bad = Played([b'{"error":{"message":"broken"}}'], 500, stream=False)
    with serving(FakeProvider(bad, bad, bad, GOOD)) as url, gateway([native(url)]) as gate:
        for _ in range(3):
            gate.model("openai.chat")
        sick = gate.ask("/health", method="GET").json
        gate.model("openai.chat")
        well = gate.ask("/health", method="GET").json
    assert sick["status"] == "degraded" and "3 failures in a row" in sick["reasons"][0]
    assert (well["status"], well["reasons"]) == ("ok", [])


@pytest.mark.parametrize(
    ("upstreams", "words"),
    [
        ([UpstreamSettings()], "exactly one of"),
        ([UpstreamSettings(native="openai.chat", litellm={})], "native and litellm"),
        ([UpstreamSettings(native="openai.chats")], "did you mean 'openai.chat'"),
        ([UpstreamSettings(native="openai.chat", base_url="ftp://x")], "base_url"),
        ([UpstreamSettings(native="openai.chat", base_url="http://u:p@x")], "credential"),
        ([UpstreamSettings(native="openai.chat", fallback=["gone"])], "'gone'"),
        (
            [UpstreamSettings(native="openai.chat", name="a"), UpstreamSettings(litellm={}, name="a")],
            "one name",
        ),
        ([UpstreamSettings(litellm={"api_key": "k"})], "api_key"),
        (
            [
                UpstreamSettings(native="openai.chat", base_url="http://a/v1", fallback=["b"]),
                UpstreamSettings(native="openai.chat", base_url="http://b/v1", name="b"),
            ],
            "credential",
        ),
    ],
)
def test_wrong_settings_are_errors_before_any_traffic(upstreams: list[UpstreamSettings], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        create_app(Guard(), upstreams)


async def test_on_trio_it_says_what_it_needs(anyio_backend_name: str) -> None:
    upstreams = create_app(Guard(), [native("http://127.0.0.1:1")]).state.upstreams
    if anyio_backend_name == "trio":
        with pytest.raises(ConfigError, match="asyncio"):
            await upstreams.start()
    else:
        await upstreams.start()
        await upstreams.stop()
