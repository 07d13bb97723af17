"""The client of `benchmarks.gateway`: raw sockets, so that what is measured is the server."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

__all__ = ["Load"]

_MOMENT = re.compile(rb'" ?(\d{9,}) word')


@dataclass(frozen=True)
class Load:
    """Asks one server for chat completions."""

    port: int
    model: str = "gpt-4o-mini"
    headers: Mapping[str, str] | None = None

    def requests(self, seconds: float, connections: int = 8) -> float:
        """Whole completions a second."""
        return self._together(
            connections, lambda: self._loop(seconds, self._request(stream=False), b"HTTP/1.1 200")
        )

    def chunks(self, seconds: float, connections: int = 4, chunks: int = 400) -> float:
        """Chunks a second, as fast as they go."""
        asked = self._request(stream=True, seed=chunks)
        return self._together(connections, lambda: self._loop(seconds, asked, b"data: {"))

    def first(self, times: int) -> list[float]:
        """Milliseconds from the request to the first chunk, one request after another."""
        asked, found = self._request(stream=True, seed=3), []
        with self._connected() as link:
            for _ in range(times):
                began = time.perf_counter()
                link.sendall(asked)
                data = _received(link)
                while b"data: {" not in data:
                    data += _received(link)
                found.append((time.perf_counter() - began) * 1e3)
                _rest(link, data)
        return found

    def gaps(self, streams: int = 5, chunks: int = 40) -> list[float]:
        """Milliseconds from the provider's write of a chunk to its arrival, in streams of 50 chunks a second."""
        asked = self._request(stream=True, seed=chunks, top_p=0)

        def one() -> list[float]:
            late: list[float] = []
            with self._connected() as link:
                link.sendall(asked)
                tail = b""
                while not tail.endswith(b"0\r\n\r\n"):
                    data = _received(link)
                    now = time.monotonic_ns()
                    late += [(now - int(moment)) / 1e6 for moment in _MOMENT.findall(data)]
                    tail = (tail + data)[-16:]
            return late

        with ThreadPoolExecutor(streams) as pool:
            return [each for late in [pool.submit(one) for _ in range(streams)] for each in late.result()]

    # ------------------------------------------------------------------------------------------------------------------

    def _request(self, **fields: object) -> bytes:
        messages = [{"role": "user", "content": "write"}]
        body = json.dumps({"model": self.model, "messages": messages, **fields}).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in (self.headers or {}).items())
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nauthorization: Bearer sk-any\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        )
        return head.encode() + body

    def _connected(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def _together(self, connections: int, loop: Callable[[], float]) -> float:
        with ThreadPoolExecutor(connections) as pool:
            return sum(each.result() for each in [pool.submit(loop) for _ in range(connections)])

    def _loop(self, seconds: float, asked: bytes, mark: bytes) -> float:
        """How many of the mark came back a second, on one connection."""
        count, began = 0, time.perf_counter()
        with self._connected() as link:
            while (spent := time.perf_counter() - began) < seconds or not count:
                link.sendall(asked)
                count += _rest(link, _received(link)).count(mark)
        return count / spent


def _rest(link: socket.socket, data: bytes) -> bytes:
    """The whole answer of which `data` is the beginning."""
    while b"\r\n\r\n" not in data:
        data += _received(link)
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise RuntimeError(data[:500].decode(errors="replace"))
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    parts, size = [data], len(body)
    if found:
        while size < int(found[1]):
            parts.append(_received(link))
            size += len(parts[-1])
    else:
        tail = data[-16:]
        while not tail.endswith(b"0\r\n\r\n"):
            parts.append(_received(link))
            tail = (tail + parts[-1])[-16:]
    return b"".join(parts)


def _received(link: socket.socket) -> bytes:
    data = link.recv(1 << 18)
    if not data:
        raise RuntimeError("the server hung up in the middle of an answer")
    return data
