"""A stored answer of which only the rest is asked for: what was cut off would be missing in what policies judge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, GuardMiddleware, Policy, hookimpl
from luthien_guard.testing import Script, render
from tests.asgi_drive import Reply, ask, replay

pytestmark = pytest.mark.anyio

STORED = "/v1/responses/resp_1?"
REST = b"\n\n".join(
    render(Script().text("RED ACTED").split(3), "openai.responses", stream=True).body.split(b"\n\n")[5:]
)


class Secret(Policy):
    lookahead = 9

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("secret") if "RED ACTED" in chunk.text else None


async def read(query: str, policies: list[Any], **options: Any) -> Reply:
    app = replay(REST, status=200, content_type="text/event-stream")
    guarded = GuardMiddleware(app, guard=Guard(policies, **options))
    return await ask(guarded, STORED + query, b"", method="GET")


@pytest.mark.parametrize(
    "query", ["stream=true&starting_after=5", "starting%5Fafter=5", "Starting_After=5", "starting_after[]=5"]
)
async def test_where_a_policy_enforces_it_is_refused(query: str) -> None:
    reply = await read(query, [Secret()])
    assert reply.status == 400
    error = json.loads(reply.body)["error"]
    assert error["code"] == "stream_resume_unsupported"
    assert "without `starting_after`" in error["message"]


@pytest.mark.parametrize(
    "policies", [[], ["noop"], [{"use": Secret(), "mode": "shadow"}]], ids=["none", "noop", "shadow"]
)
async def test_who_only_looks_on_changes_nothing(policies: list[Any]) -> None:
    reply = await read("stream=true&starting_after=5", policies)
    assert (reply.status, reply.body) == (200, REST)


async def test_from_the_beginning_it_is_judged() -> None:
    whole = render(Script().text("RED ACTED").split(3), "openai.responses", stream=True).body
    app = replay(whole, status=200, content_type="text/event-stream")
    reply = await ask(
        GuardMiddleware(app, guard=Guard([Secret()])), STORED + "stream=true", b"", method="GET"
    )
    assert reply.status == 200
    assert b"ACTED" not in reply.body
