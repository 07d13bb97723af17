"""The middleware on sockets (uvicorn, httptools, uvloop), against a bare pass-through middleware.

Burst: the server's own CPU for each chunk, one chunk a message, as fast as it goes. Loopback only; every run is
bounded. For how much later a chunk is see `benchmarks.paced`.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import interleaved, report
from benchmarks.traffic import REQUEST

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(REQUEST)
)
CHUNKS, REQUESTS = 200, 40
BURST = [
    "pass-through", "BaseHTTPMiddleware", "guard, no policy", "guard, noop", "guard, looks at chunks",
    "guard, reads the text", "guard, changes every chunk", "guard, one that waits",
]  # fmt: skip


@contextmanager
def server(name: str, chunks: int, pause: float) -> Generator[tuple[int, int]]:
    """(port, process id) of a server that ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.server", name, str(port), str(chunks), str(pause)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        _wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server did not start")


def cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    # nanoseconds for each thread, where /proc/PID/stat counts ticks: longer than what is measured here
    spent = [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, spent)) / 1e9


def burst(port: int, pid: int) -> float:
    """Microseconds of the server's CPU for a chunk."""
    began = cpu(pid)
    with socket.create_connection(("127.0.0.1", port)) as link:
        for _ in range(REQUESTS):
            link.sendall(HEAD + REQUEST)
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                tail = (tail + link.recv(1 << 18))[-16:]
    return (cpu(pid) - began) / (REQUESTS * CHUNKS) * 1e6


def main() -> None:
    runs: dict[str, Callable[[], float]] = {}
    stacks = []
    for name in BURST:
        manager = server(name, CHUNKS, 0.0)
        port, pid = manager.__enter__()
        stacks.append(manager)
        runs[name] = lambda port=port, pid=pid: burst(port, pid)  # type: ignore[misc]
    try:
        found = interleaved(runs, rounds=7)
    finally:
        for manager in stacks:
            manager.__exit__(None, None, None)
    base = statistics.median(found["pass-through"])
    ratios = ", ".join(f"{name} {base / statistics.median(values):.2f}" for name, values in found.items())
    report(
        "burst, per chunk",
        "us of server CPU",
        found,
        baseline="pass-through",
        note=f"chunks/s against pass-through: {ratios}",
    )


if __name__ == "__main__":
    main()
