"""The servers that `benchmarks.gateway` compares: each a process of its own, in front of the same provider."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load
from tests.cli.processes import environment, served
from tests.clients.programs import NODE, Unavailable, node_of, npm_environment, python_environment

__all__ = ["Server", "direct", "guard", "litellm_proxy", "portkey"]

_PATIENCE = 120.0
_LITELLM = ("litellm[proxy]==1.106.2",)
_PORTKEY = ("@portkey-ai/gateway@1.15.2",)

_PROXY_CONFIG = """\
model_list:
  - {{model_name: "*", litellm_params: {{model: "openai/*", api_base: "{provider}/v1", api_key: any}}}}
guardrails:
  - guardrail_name: noop
    litellm_params: {{guardrail: noop_guardrail.Noop, mode: post_call, default_on: true}}
litellm_settings: {{telemetry: false}}
"""
_GUARDRAIL = """\
from litellm.integrations.custom_guardrail import CustomGuardrail

class Noop(CustomGuardrail):
    async def async_post_call_success_hook(self, data, user_api_key_dict, response):
        return response

    async def async_post_call_streaming_iterator_hook(self, user_api_key_dict, response, request_data):
        async for item in response:
            yield item
"""


@dataclass(frozen=True)
class Server:
    """How to ask it, and the process to weigh."""

    load: Load
    pid: int

    def memory(self) -> float:
        """MB that it holds, with the processes that it started."""
        return sum(_resident(pid) for pid in _family(self.pid)) / 1e6

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        parts = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def direct(folder: Path) -> Generator[Server]:
    """The provider itself."""
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.backend", str(port)]
    with _process(command, folder / "backend.log", port, os.environ, Path(__file__).parents[1]) as pid:
        yield Server(Load(port), pid)


@contextmanager
def guard(
    folder: Path, upstream: str, policies: str = "[noop]", model: str = "gpt-4o-mini"
) -> Generator[Server]:
    """`luthien-guard serve`."""
    folder.mkdir()
    config = folder / "guard.yaml"
    config.write_text(f"policies: {policies}\nupstreams: [{{match: '*', {upstream}}}]\n")
    with served(folder, config) as gateway:
        yield Server(Load(int(gateway.url.rpartition(":")[2]), model), gateway.process.pid)


@contextmanager
def litellm_proxy(folder: Path, provider: str) -> Generator[Server]:
    """LiteLLM's proxy with a guardrail that does nothing. Raises Unavailable."""
    home = python_environment(folder / "litellm", _LITELLM)
    (home / "noop_guardrail.py").write_text(_GUARDRAIL)
    (home / "config.yaml").write_text(_PROXY_CONFIG.format(provider=provider))
    port = _free_port()
    command = [
        str(home / "bin" / "litellm"),
        "--config",
        "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_MASTER_KEY": "sk-any"}
    with _process(command, folder / "litellm.log", port, environment(home, **quiet), home) as pid:
        yield Server(Load(port), pid)


@contextmanager
def portkey(folder: Path, provider: str) -> Generator[Server]:
    """Portkey's gateway. Raises Unavailable."""
    node: Future[Path] = Future()
    node.set_result(python_environment(folder / "node", NODE))
    home = npm_environment(node, folder / "portkey", _PORTKEY)
    port = _free_port()
    program = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    command = [str(node_of(node.result())), str(program), f"--port={port}", "--headless"]
    asked = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{provider}/v1"}
    trusted = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"}
    with _process(command, folder / "portkey.log", port, environment(home, **trusted), home) as pid:
        yield Server(Load(port, headers=asked), pid)


# ----------------------------------------------------------------------------------------------------------------------


@contextmanager
def _process(
    command: Sequence[str], log: Path, port: int, variables: Mapping[str, str], folder: Path
) -> Generator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(variables), cwd=folder)
    try:
        _wait_for(port, process, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise Unavailable(f"{log.stem} did not start: {log.read_text()[-500:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
