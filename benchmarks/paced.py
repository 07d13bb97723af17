"""Many paced streams at a time: how much later a chunk is with the client than it was with the application.

The client is one loop over `epoll`, so that it waits for the server and not the server for it. Streams begin one after
another; what counts is the time in which all of them run.
"""

from __future__ import annotations

import gc
import os
import re
import select
import socket
import time

from benchmarks.sockets import HEAD, server
from benchmarks.table import interleaved, report
from benchmarks.traffic import REQUEST

STREAMS = int(os.environ.get("BENCH_STREAMS", "1000"))
PAUSE = 0.2  # seconds between two chunks of one stream
BEGINNING = 2.0  # seconds within which all of them begin
PER_STREAM = 40  # chunks
ROUNDS = 3
VARIANTS = (
    "pass-through", "guard, no policy", "guard, noop", "guard, reads the text", "guard, one that waits",
    "BaseHTTPMiddleware",
)  # fmt: skip
_MOMENT = re.compile(rb'" ?(\d{9,}) word')
_END = b"0\r\n\r\n"


class Streams:
    """As many as `STREAMS`, each on a connection of its own. `late`: (sent, microseconds on the way) of each chunk."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, bytes]] = {}
        self.late: list[tuple[int, float]] = []

    def run(self) -> list[float]:
        """Microseconds of each chunk, sorted, of the time in which all streams run."""
        began = time.monotonic()
        started, all_run = 0, 0
        gc.disable()
        while started < STREAMS or self._open:
            if started < STREAMS and time.monotonic() - began >= started * BEGINNING / STREAMS:
                self._begin()
                started += 1
                if started == STREAMS:
                    all_run = time.monotonic_ns()
            for file, _ in self._poll.poll(BEGINNING / STREAMS if started < STREAMS else 1.0):
                self._read(file)
        gc.enable()
        until = int((began + PER_STREAM * PAUSE) * 1e9)
        return sorted(late for sent, late in self.late if all_run <= sent <= until)

    def _begin(self) -> None:
        link = socket.create_connection(("127.0.0.1", self._port))
        link.sendall(HEAD + REQUEST)
        self._open[link.fileno()] = (link, b"")
        self._poll.register(link, select.EPOLLIN)

    def _read(self, file: int) -> None:
        link, tail = self._open[file]
        data = link.recv(1 << 16)
        now = time.monotonic_ns()
        for moment in _MOMENT.findall(data):
            self.late.append((int(moment), (now - int(moment)) / 1000))
        tail = (tail + data)[-16:]
        self._open[file] = (link, tail)
        if tail.endswith(_END) or not data:
            self._poll.unregister(file)
            del self._open[file]
            link.close()


def main() -> None:
    slow: dict[str, list[float]] = {name: [] for name in VARIANTS}

    def run(name: str) -> float:
        with server(name, PER_STREAM, PAUSE) as (port, _):
            late = Streams(port).run()
        slow[name].append(late[len(late) * 99 // 100])
        return late[len(late) // 2]

    half = interleaved({name: lambda name=name: run(name) for name in VARIANTS}, rounds=ROUNDS)  # type: ignore[misc]
    what = f"{STREAMS} paced streams, {STREAMS / PAUSE:.0f} chunks/s: from the application to the client"
    report(f"{what}, p50", "us", half, baseline="pass-through")
    report(f"{what}, p99", "us", {name: each[1:] for name, each in slow.items()}, baseline="pass-through")


if __name__ == "__main__":
    main()
