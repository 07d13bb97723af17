"""`/health` and `/metrics`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from luthien_guard.asgi.types import Receive, Scope, Send
from luthien_guard.gateway.metrics import Metrics
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.guard import Guard

__all__ = ["Health", "MetricsPage"]


class Health:
    """`{"status": "ok"|"degraded"|"starting", "reasons": [...]}`. `/health` and `/health/live` answer 200 while the
    process can answer at all; `/health/ready` answers 503 until it can serve. `further`: what else is wrong, without
    names. `policies` is the version of the policies that new exchanges run under."""

    def __init__(
        self, guard: Guard, upstreams: Upstreams, further: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._guard = guard
        self._upstreams = upstreams
        self._further = further

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        report = self.report()
        waits = scope["path"].endswith("/ready") and report["status"] == "starting"
        await _answer(send, 503 if waits else 200, b"application/json", json.dumps(report).encode())

    def report(self) -> dict[str, Any]:
        reasons = [
            f"upstream {name}: {state.reason}"
            for name, state in self._upstreams.states.items()
            if state.reason is not None
        ]
        # by name only: what exactly is wrong stands in the log, and anybody may ask here
        reasons += [f"records: the {part} does not take any" for part in self._guard.health]
        ledger = self._guard.ledger()
        reasons += [f"records: {ledger[state]} {state}" for state in ("dropped", "refused") if ledger[state]]
        status = self._guard.config_status
        if status is not None and status.error:  # what is wrong stands in the log: anybody may ask here
            reasons.append("configuration: the file is not valid, the one before it is in effect")
        reasons += self._further()
        ready = self._upstreams.started
        found = "starting" if not ready else "degraded" if reasons else "ok"
        version = self._guard.policy_version
        return {"status": found, "live": True, "ready": ready, "policies": version, "reasons": reasons}


class MetricsPage:
    """The text format of Prometheus."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._metrics.available:
            kind, body = self._metrics.render()
            await _answer(send, 200, kind.encode(), body)
        else:
            await _answer(send, 404, b"text/plain", b"no metrics: pip install 'luthien-guard[prometheus]'\n")


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
