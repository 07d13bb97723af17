"""The middleware on sockets (uvicorn, httptools, uvloop), against a bare pass-through middleware.

Burst: the server's own CPU for each chunk, one chunk a message, as fast as it goes, in short answers (where what a
request costs shows) and in long ones (where it does not). Loopback only; every run is bounded. For how much later a chunk
is see `benchmarks.paced`.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.table import interleaved, report
from benchmarks.traffic import REQUEST

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(REQUEST)
)
CHUNKS = 8000  # a run
SHORT, LONG = 200, 1000  # of them in an answer
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


def burst(port: int, pid: int, length: int) -> float:
    """Microseconds of the server's CPU for a chunk, in answers of so many."""
    began = cpu(pid)
    with socket.create_connection(("127.0.0.1", port)) as link:
        for _ in range(CHUNKS // length):
            link.sendall(HEAD + REQUEST)
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                tail = (tail + link.recv(1 << 18))[-16:]
    return (cpu(pid) - began) / CHUNKS * 1e6


def measure(length: int, core: set[int]) -> None:
    runs: dict[str, Callable[[], float]] = {}
    with ExitStack() as stack:
        for name in BURST:
            port, pid = stack.enter_context(server(name, length, 0.0))
            if core:
                os.sched_setaffinity(pid, core)
            runs[name] = lambda port=port, pid=pid: burst(port, pid, length)  # type: ignore[misc]
        found = interleaved(runs, rounds=9)
    base = statistics.median(found["pass-through"])
    ratios = ", ".join(f"{name} {base / statistics.median(values):.2f}" for name, values in found.items())
    report(
        f"burst, per chunk, {length} in an answer",
        "us of server CPU",
        found,
        baseline="pass-through",
        note=f"chunks/s against pass-through: {ratios}",
    )


@contextmanager
def core_of_its_own() -> Generator[set[int]]:
    """One for the servers, which this process leaves to them: who shares one with the client is slower by as much as is
    measured here. Empty where there is none to give."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if len(cores) < 2:
        yield set()
        return
    given = {min(cores)}
    os.sched_setaffinity(0, cores - given)
    try:
        yield given
    finally:
        os.sched_setaffinity(0, cores)


def main() -> None:
    with core_of_its_own() as core:
        for length in (SHORT, LONG):
            measure(length, core)


if __name__ == "__main__":
    main()
