"""A worker that is a process: takes as often as it is told, and says how often there was something."""

from __future__ import annotations

import sys

import anyio

from luthien_guard.gateway.shared.pace import pace_of
from luthien_guard.gateway.shared.urls import open_shared


async def main(*arguments: str) -> None:
    url, bucket, requests, times = arguments
    shared = open_shared(url)
    assert shared is not None
    pace = pace_of(float(requests), 86400.0)
    await shared.announce("processes", bucket, "1", 60.0)
    sys.stdin.readline()  # all start at once
    print([await shared.take(bucket, pace) for _ in range(int(times))].count(0.0))
    shared.close()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
