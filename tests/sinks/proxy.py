"""A way to a server that can be cut, or fall silent without a word."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

__all__ = ["Proxy", "proxied"]


class Proxy:
    """Listens on a port of its own. While `speaking` is not set connections stand, and nothing goes through; `commit` is
    how many seconds each COMMIT takes longer."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._open: list[socket.socket] = []
        self.commit = 0.0
        self.speaking = threading.Event()
        self.speaking.set()
        self._port = 0
        self.up()

    @property
    def url(self) -> str:
        return self._parts._replace(netloc=f"postgres:s3cret@127.0.0.1:{self._port}", query="").geturl()

    def lead(self, url: str) -> None:
        """Where connections go from now on; those that stand stay."""
        self._parts = urlsplit(url)

    def up(self) -> None:
        """Listen; on the port of before, if there was one."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        """End every connection, and refuse others."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        while self._open:
            with contextlib.suppress(OSError), self._open.pop() as end:
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.speaking.set()
        self.down()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = self._connected()
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _connected(self) -> socket.socket:
        if folder := parse_qs(self._parts.query).get("host"):
            far = socket.socket(socket.AF_UNIX)
            far.connect(f"{folder[0]}/.s.PGSQL.5432")
            return far
        return socket.create_connection((self._parts.hostname or "", self._parts.port or 5432))

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.speaking.wait()
                if self.commit and b"COMMIT" in data:
                    time.sleep(self.commit)
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
