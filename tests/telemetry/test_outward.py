"""The trace goes on upstream: what the gateway asks hangs on the exchange's span."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id

from luthien_guard.testing.provider import serving
from tests.gateway.harness import gateway, native
from tests.telemetry.rig import Collected

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_upstream_is_told_the_exchanges_span() -> None:
    told: list[str] = []

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        told.append(dict(scope["headers"])[b"traceparent"].decode())
        await receive()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"id":"c","choices":[]}'})

    collected = Collected()
    with serving(upstream) as url, gateway([native(url)], tracing=collected.sink) as gate:
        caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = gate.ask("/v1/chat/completions", ASK, headers={"traceparent": caller})
    assert answer.status == 200, answer.body
    context = collected.exchange.context
    assert context is not None
    assert told == [f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-01"]
    assert told[0].split("-")[1] == caller.split("-")[1]
