"""The official SDKs as readers: bytes that they cannot read raise here."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import openai

__all__ = ["reads"]


def reads(api: str, body: bytes, *, stream: bool, status: int = 200) -> list[Any]:
    """What the SDK of the api makes of the body: its events, or the one object. Raises what the SDK raises."""
    kind = "text/event-stream" if stream else "application/json"
    events = _READERS[api](lambda _: (status, kind, body), stream)
    return list(events) if stream else [events]


def _openai(answer: Any) -> openai.OpenAI:
    def handle(request: httpx.Request) -> httpx.Response:
        status, kind, body = answer(request)
        return httpx.Response(status, headers={"content-type": kind}, content=body)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return openai.OpenAI(api_key="k", base_url="http://127.0.0.1/v1", http_client=client, max_retries=0)


def _chat(answer: Any, stream: bool) -> Any:
    return _openai(answer).chat.completions.create(model="m", messages=[], stream=stream)


def _responses(answer: Any, stream: bool) -> Any:
    return _openai(answer).responses.create(model="m", input="x", stream=stream)


def _messages(answer: Any, stream: bool) -> Any:
    http: Any
    try:
        import httpx2 as http  # anthropic 1.x and newer
    except ImportError:
        http = httpx

    def handle(request: Any) -> Any:
        status, kind, body = answer(request)
        return http.Response(status, headers={"content-type": kind}, content=body)

    transport = http.Client(transport=http.MockTransport(handle))
    client = anthropic.Anthropic(
        api_key="k", base_url="http://127.0.0.1", http_client=transport, max_retries=0
    )
    return client.messages.create(model="m", messages=[], max_tokens=1, stream=stream)


_READERS = {"openai.chat": _chat, "openai.responses": _responses, "anthropic.messages": _messages}
