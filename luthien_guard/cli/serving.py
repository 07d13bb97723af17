"""uvicorn around the gateway: the socket is bound first, so that the port is known and workers share it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from luthien_guard.cli.background import ANNOUNCED
from luthien_guard.cli.constructing import check_replays
from luthien_guard.cli.ending import hand_over
from luthien_guard.cli.server_log import LOGGING
from luthien_guard.config.environment import LAST_GOOD, VARIABLE
from luthien_guard.config.explain import of_file
from luthien_guard.config.folders import data_folder, private_folder
from luthien_guard.config.load import Loaded
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.factory import application_of, beside
from luthien_guard.gateway.hosts import check_binding
from luthien_guard.limits import Limits

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

__all__ = ["bound", "end_with_parent", "lasting", "serve", "url_of"]

_BACKLOG: Final = 2048


def serve(loaded: Loaded, announce: Path | None = None, *, told: Callable[[str], None]) -> None:
    """Serve until a signal ends it. `told` is called with the address once requests are taken. Raises ConfigError. Signals
    that come before the server has handlers of its own are the business of `ended_by_signals`."""
    with of_file(loaded.path, loaded.origins):
        check_binding(loaded.config)
        check_replays(loaded.config)
    private_folder(data_folder())
    _hand_down(loaded)
    listening = bound(loaded.config.server.host, loaded.config.server.port)
    notice = _Notice(announce or data_folder() / ANNOUNCED, url_of(*listening.getsockname()[:2]), loaded.path)

    def up() -> None:
        notice.write()
        told(notice.url)

    try:
        (_many if loaded.config.server.workers > 1 else _one)(loaded, listening, up)
    finally:
        notice.remove()
        listening.close()


def end_with_parent() -> None:
    """End in order when standard input does: whoever started this process holds its other end."""

    def watched() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watched, daemon=True).start()


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError that says who is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows this would let two programs share a port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
        listening.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:  # no name of a host is like "a..b"
        listening.close()
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port}: {why} (--port takes another)") from None
    # asyncio sets this only where the socket names its protocol; accepted ones inherit it
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.set_inheritable(True)
    return listening


# ----------------------------------------------------------------------------------------------------------------------


def _one(loaded: Loaded, listening: socket.socket, up: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and not self.should_exit:
                up()

    with of_file(loaded.path, loaded.origins):
        app = lasting(application_of(loaded))
    server = Server(_config(loaded, app))
    # it ends in order, and then raises the signal again: to die of it would leave the notice behind
    hand_over(server.handle_exit)
    with contextlib.suppress(SystemExit):  # uvicorn's own code for an application that did not start
        server.run([listening])
    if not server.started:
        raise ConfigError("the gateway did not start: see the log above")


def _many(loaded: Loaded, listening: socket.socket, up: Callable[[], None]) -> None:
    """The parent only watches: workers read the file and the environment themselves, and reload themselves."""
    from luthien_guard.cli.workers import APPLICATION, Supervisor

    config = _config(loaded, APPLICATION, factory=True)
    with tempfile.TemporaryDirectory(prefix="luthien-guard-") as folder:
        os.environ[LAST_GOOD] = str(Path(folder, "guard.yaml"))
        with of_file(loaded.path, loaded.origins):
            application_of(loaded)  # what is wrong is told once, here, and not by every worker
        supervisor = Supervisor(config, [listening], up)
        supervisor.run()
    if supervisor.failed:
        raise ConfigError("a worker did not start: see the log above")


def lasting(app: Starlette) -> Starlette:
    """The application of a process that does nothing else. What is there when the first request comes is there until the
    end: a full garbage collection that looks at it (litellm alone is 250,000 objects) stops every stream for as long."""
    beside(app, _freeze)
    return app


async def _freeze() -> None:
    gc.collect()
    gc.freeze()


def _config(loaded: Loaded, app: Any, *, factory: bool = False) -> uvicorn.Config:
    import uvicorn

    server = loaded.config.server
    return uvicorn.Config(
        app,
        factory=factory,
        http=_protocol(loaded.config.limits),
        host=server.host,
        port=server.port,
        workers=server.workers,
        lifespan="on",
        access_log=False,  # records say more, and addresses of clients are theirs
        server_header=False,
        proxy_headers=False,  # who asks is decided by credentials, never by a header
        log_config=LOGGING,
        timeout_graceful_shutdown=server.shutdown_timeout,
    )


def _protocol(limits: Mapping[str, Any]) -> Any:
    try:
        from luthien_guard.cli.http_protocol import Protocol
    except ImportError:  # no httptools here
        return "auto"
    usual = Limits()
    return partial(
        Protocol,
        patience=limits.get("idle_timeout", usual.idle_timeout),
        arrival=limits.get("request_timeout", usual.request_timeout),
    )


def _hand_down(loaded: Loaded) -> None:
    """What the command line said, in the form in which workers (and every reload) read it again."""
    server = loaded.config.server
    os.environ.update(
        LUTHIEN_SERVER__HOST=server.host,
        LUTHIEN_SERVER__PORT=str(server.port),
        LUTHIEN_SERVER__WORKERS=str(server.workers),
    )
    if loaded.path is not None:
        os.environ[VARIABLE] = str(loaded.path.absolute())


def url_of(host: str, port: int) -> str:
    """Where a client on this machine asks a gateway that listens there."""
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):  # noqa: S104 -- where everybody may ask, so may we
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Notice:
    """Tells other commands of this user where the gateway is."""

    def __init__(self, path: Path, url: str, config: Path | None) -> None:
        self.url = url
        self._path = path
        self._text = json.dumps(
            {"url": url, "pid": os.getpid(), "config": str(config.absolute()) if config else None}
        )

    def write(self) -> None:
        scratch = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        scratch.write_text(self._text, encoding="utf-8")
        scratch.replace(self._path)

    def remove(self) -> None:
        try:
            if self._path.read_text(encoding="utf-8") == self._text:
                self._path.unlink()
        except OSError:
            pass
