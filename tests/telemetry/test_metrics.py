"""What is counted."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, Policy, hookimpl
from luthien_guard.records import EventType
from tests.telemetry.rig import Collected, answer, asking, recorder, served, stream

pytestmark = pytest.mark.anyio

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4",
    "gen_ai.response.model": "gpt-4-0613",
}


class Watching(Policy):
    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("bad") if "bad" in chunk.text else None


def closed(collected: Collected, call_id: str = "c1", model: str = "gpt-4", **details: Any) -> None:
    """A client's exchange of two seconds."""
    record = recorder(collected.sink.put, call_id)
    record(EventType.REQUEST_RECEIVED, wire_format="openai.chat", model=model, stream=True, body="{}")
    record(EventType.RESPONSE_STARTED, status=200, after=0.5)
    record(EventType.USAGE, usage={"prompt_tokens": 3, "completion_tokens": 4})
    record(EventType.RESPONSE_RECEIVED, model="gpt-4-0613", after=2)
    record(EventType.CLOSED, outcome="success", after=2, **{"first_byte": 0.75, **details})


async def test_of_an_exchange_through_the_middleware() -> None:
    collected = Collected()
    await served(collected, *stream("one ", "two"), policies=[Watching()])
    found = collected.metrics()
    assert set(found) == {
        "luthien.exchange.duration",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.client.token.usage",
    }
    ((attributes, (number, seconds)),) = found["gen_ai.server.request.duration"]
    assert (attributes, number) == (CALL, 1)
    assert seconds > 0
    assert found["gen_ai.client.token.usage"] == [
        ({**CALL, "gen_ai.token.type": "input"}, (1, 3)),
        ({**CALL, "gen_ai.token.type": "output"}, (1, 4)),
    ]
    ((attributes, _),) = found["luthien.exchange.duration"]
    assert attributes == {
        "luthien.outcome": "success",
        "luthien.wire_format": "openai.chat",
        "luthien.stream": True,
    }


async def test_of_a_verdict() -> None:
    collected = Collected()
    await served(collected, answer("bad"), policies=[Watching()])
    attributes = {
        "luthien.policy.name": "watching",
        "luthien.policy.verdict": "block",
        "luthien.policy.enforced": True,
    }
    assert collected.metrics()["luthien.policy.verdicts"] == [(attributes, 1)]
    ((attributes, _),) = collected.metrics()["luthien.exchange.duration"]
    assert attributes["luthien.outcome"] == "blocked"


def test_of_a_client_call_in_seconds() -> None:
    collected = Collected()
    closed(collected, hooks={"judge": {"on_a": 0.125, "on_b": 0.125}, "other": {"on_a": 0.5}})
    found = collected.metrics()
    assert found["gen_ai.client.operation.duration"] == [(CALL, (1, 2.0))]
    assert found["gen_ai.client.operation.time_to_first_chunk"] == [(CALL, (1, 0.75))]
    assert found["luthien.policy.duration"] == [
        ({"luthien.policy.name": "judge"}, (1, 0.25)),
        ({"luthien.policy.name": "other"}, (1, 0.5)),
    ]


def test_the_newest_names() -> None:
    collected = Collected(semconv="latest")
    closed(collected)
    assert set(collected.metrics()) == {
        "luthien.exchange.duration",
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
    }


def test_a_client_that_invents_models_makes_no_time_series_of_each() -> None:
    collected = Collected()
    for number in range(500):
        closed(collected, f"c{number}", f"model-{number}")
    found = collected.metrics()["gen_ai.client.operation.duration"]
    assert len(found) <= 201
    assert {attributes["gen_ai.request.model"] for attributes, _ in found} >= {"model-0", "_OTHER"}


async def test_the_ledger_of_the_delivery() -> None:
    collected = Collected()
    guard = Guard(sinks=[collected.sink])
    counts = {"stored": 5, "in_memory": 2, "spooled": 1, "dropped": 3, "dropped.overflow": 3, "refused": 4}
    collected.sink.watch(lambda: counts)
    found = collected.metrics()
    assert found["luthien.records"] == [
        ({"luthien.record.state": "stored"}, 5),
        ({"luthien.record.state": "spooled"}, 1),
        ({"luthien.record.state": "in_memory"}, 2),
    ]
    assert found["luthien.records.dropped"] == [
        ({"luthien.drop.reason": "overflow"}, 3),
        ({"luthien.drop.reason": "refused"}, 4),
    ]
    assert set(guard.delivery.ledger()) >= {"stored", "in_memory", "spooled", "dropped"}, (
        "the names are the delivery's"
    )


async def test_what_is_not_sampled_is_counted_all_the_same() -> None:
    collected = Collected()
    unsampled = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    headers = [(b"content-type", b"application/json"), (b"traceparent", unsampled)]
    await served(collected, answer("bad"), policies=[Watching()], ask=asking(), headers=headers)
    assert collected.spans == ()
    assert {"gen_ai.server.request.duration", "luthien.policy.verdicts"} <= set(collected.metrics())
