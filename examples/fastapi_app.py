"""A FastAPI application whose model answers are under policy: `uvicorn examples.fastapi_app:app`.

    curl -N http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
         -d '{"model": "echo", "stream": true, "messages": [{"role": "user", "content": "the password is hunter2"}]}'
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from luthien_guard import Guard, GuardMiddleware

app = FastAPI()
guard = Guard(policies=[{"use": "default-limits", "config": {"forbidden_words": ["hunter2"]}}])
app.add_middleware(GuardMiddleware, guard=guard)


@app.post("/v1/chat/completions")
async def chat(request: dict[str, Any]) -> StreamingResponse:
    """A model that says what it heard, word by word."""
    words = str(request["messages"][-1]["content"]).split(" ")
    return StreamingResponse(_stream(words), media_type="text/event-stream")


async def _stream(words: list[str]) -> AsyncIterator[str]:
    for at, word in enumerate(words):
        yield _event({"content": word if at == 0 else f" {word}"}, None)
    yield _event({}, "stop")
    yield "data: [DONE]\n\n"


def _event(delta: dict[str, str], finish: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "echo", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"
