"""A gateway beside another program: the one that runs already, or one for the time being."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from luthien_guard.config.folders import data_folder
from luthien_guard.errors import ConfigError

__all__ = ["ANNOUNCED", "is_gateway", "own_gateway", "running_gateway"]

#: The gateway that this user started last, while it runs: `{"url", "pid", "config"}`.
ANNOUNCED: Final = "gateway.json"
_PATIENCE: Final = 60.0  # seconds until it must answer: litellm alone may take ten
_ENDING: Final = 10.0
_STEP: Final = 0.05
_TOLD: Final = 4000  # characters of its log that are shown when it did not start


def running_gateway(config: Path | None) -> str | None:
    """The address of a gateway of this user with this configuration (None: with any), if one answers. Only the notice
    in the user's own folder is believed: anybody may listen on a port and say that he is the gateway."""
    found = _read(data_folder() / ANNOUNCED)
    if not isinstance(found, dict) or not isinstance(found.get("url"), str):
        return None
    if config is not None and found.get("config") != str(config.absolute()):
        return None
    return found["url"] if _is_alive(found.get("pid")) and is_gateway(found["url"]) else None


@contextmanager
def own_gateway(config: Path | None) -> Generator[str]:
    """Starts one on a free port of loopback and ends it afterwards. It ends by itself should this process die. Raises
    ConfigError with what it said when it does not start."""
    with tempfile.TemporaryDirectory(prefix="luthien-guard-") as folder:
        notice, log = Path(folder, ANNOUNCED), Path(folder, "log")
        with log.open("wb") as output, _started(_command(config, notice), output) as process:
            try:
                yield _awaited(process, notice, log)
            finally:
                _ended(process)


def is_gateway(url: str) -> bool:
    """True when what answers there is ready to serve."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2.0)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return answer.status == 200 and bool(json.loads(answer.read(4096)).get("ready"))
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# ----------------------------------------------------------------------------------------------------------------------


def _command(config: Path | None, notice: Path) -> list[str]:
    own = [sys.executable, "-m", "luthien_guard.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
    own += ["--workers", "1", "--announce", str(notice), "--with-parent"]
    return own if config is None else [*own, "--config", str(config)]


def _started(command: list[str], output: Any) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C is meant for the client in the foreground
    return subprocess.Popen(  # noqa: S603 -- this very program
        command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def _awaited(process: subprocess.Popen[bytes], notice: Path, log: Path) -> str:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        found = _read(notice)
        if found is not None and is_gateway(found["url"]):
            return str(found["url"])
        time.sleep(_STEP)
    said = log.read_text(encoding="utf-8", errors="replace")[-_TOLD:].strip()
    raise ConfigError(f"the gateway did not start:\n{said or '(it said nothing)'}")


def _ended(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    if os.name != "posix":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
