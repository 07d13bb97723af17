"""The command line as real processes on loopback, in a home of their own."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.rig.waiting import eventually

PROGRAM = [sys.executable, "-m", "luthien_guard.cli"]
SECRET = "hunter2"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": SECRET}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


SSE = [(b"content-type", b"text/event-stream")]
FIRST = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"so"},"finish_reason":null}]}\n\n'


class Upstream:
    """Says the secret, and remembers what it was asked."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.gate = threading.Event()  # what asks for the model "slow" waits for it
        self.asked = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        import anyio

        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        body = (await receive()).get("body", b"")
        self.asked.set()
        if b'"slow"' in body:
            await anyio.to_thread.run_sync(self.gate.wait, 30)
        if b'"endless"' in body:
            await send({"type": "http.response.start", "status": 200, "headers": SSE})
            await send({"type": "http.response.body", "body": FIRST, "more_body": True})
            await anyio.sleep_forever()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(ANSWER).encode(), "more_body": False})


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of whoever runs the tests, but where programs are."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
        if name in os.environ
    }
    own = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return {**kept, **own, **more}


def run(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(home, **more),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
    )


@dataclass
class Served:
    url: str
    process: subprocess.Popen[bytes]
    home: Path
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> tuple[int, str]:
        return self._ask("GET", path, None, {})

    def chat(self, *, model: str = "m", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        return self._ask("POST", "/v1/chat/completions", json.dumps(body), headers or {})

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(
                method, path, body, {"content-type": "application/json", **self.headers, **headers}
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def logged(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def served(home: Path, config: Path, *arguments: str, **more: str) -> Iterator[Served]:
    """`luthien-guard serve` on a free port, from when it takes requests until it has ended."""
    notice, log = home / "notice.json", home / "log"
    command = [
        *PROGRAM,
        "serve",
        "--config",
        str(config),
        "--port",
        "0",
        "--announce",
        str(notice),
        *arguments,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(home, **more), stdout=output, stderr=output, cwd=home
        )
    try:
        eventually(lambda: notice.exists() or process.poll() is not None, 120)
        assert notice.exists(), log.read_text()
        yield Served(json.loads(notice.read_text())["url"], process, home, log)
    finally:
        process.terminate()
        process.wait(60)


def refuses(url: str) -> bool:
    """Nobody listens there."""
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return True
    return False
