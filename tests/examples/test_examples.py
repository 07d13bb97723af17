"""The examples do what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from examples.fastapi_app import app
from examples.policy import BlackOut
from luthien_guard.testing import Script, run
from luthien_guard.testing.reading import read
from tests.asgi_drive import ask

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("said", "left"), [("hello there", "hello there"), ("it is hunter2 now", "not allowed")]
)
async def test_the_application_answers_and_blocks(said: str, left: str) -> None:
    request: dict[str, Any] = {
        "model": "echo",
        "stream": True,
        "messages": [{"role": "user", "content": said}],
    }
    reply = await ask(app, "/v1/chat/completions", json.dumps(request).encode())
    assert left in read(reply.body, "openai.chat", stream=True).text


async def test_the_policy_blacks_out_whatever_the_cut() -> None:
    secret = "tok_" + "a1" * 10
    for every in (1, 5, 24, 200):
        for each in await run(BlackOut(), Script().text(f"use {secret}, please").split(every)):
            assert each.transcript.text == "use █████, please"


async def test_the_policy_blocks_what_it_cannot_black_out() -> None:
    secret = "tok_" + "a1" * 10
    for script in (
        Script().reasoning(f"it is {secret}").text("Done."),
        Script().unknown(secret).text("Done."),
    ):
        (await run(BlackOut(), script)).no_leak(secret)
