"""Microseconds of CPU that the engine adds to a chunk, in process, and whether that grows with the stream."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from benchmarks.table import interleaved, report
from benchmarks.traffic import REQUEST, Changes, LooksAtChunks, Reads, Window, stream_of
from luthien_guard import Guard
from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.exchange import RequestMetadata, new_call_id

CHUNKS = 2000


async def exchange(guard: Guard, wire: Sequence[bytes], request: bytes = REQUEST) -> None:
    """One whole exchange through the engine."""
    call_id = new_call_id()
    await guard.plane.decide_request(RequestMetadata(call_id, 0.0), "openai.chat", request)
    stream = await guard.plane.open_stream(StreamingContext(call_id, "openai.chat", 200, True))
    for data in wire:
        await stream.feed(data)
    await stream.feed(b"", last=True)
    await guard.plane.close(call_id)


def run(
    policies: Sequence[Any], chunks: int = CHUNKS, exchanges: int = 1, **options: Any
) -> Callable[[], float]:
    guard = Guard(policies, **options)
    wire = stream_of(chunks)

    async def once() -> float:
        await guard.start()
        began = time.process_time()
        for _ in range(exchanges):
            await exchange(guard, wire)
        await guard.delivery.durable()  # what has to be recorded is part of it
        spent = time.process_time() - began
        await guard.stop()
        return spent / len(wire) / exchanges * 1e6

    return lambda: anyio.run(once)


def per_request(policies: Sequence[Any]) -> Callable[[], float]:
    guard = Guard(policies)

    async def many(number: int = 500) -> float:
        began = time.process_time()
        for _ in range(number):
            await exchange(guard, ())
        return (time.process_time() - began) / number * 1e6

    return lambda: anyio.run(many)


def main() -> None:
    variants = {
        "noop": run(["noop"]),
        "looks at chunks": run([LooksAtChunks()]),
        "reads the text": run([Reads()]),
        "window of 64 characters": run([Window()]),
        "changes every chunk": run([Changes()]),
        "reads, with 5 idle policies": run([Reads(), *(["noop"] * 5)]),
    }
    report("engine, per chunk", "us of CPU", interleaved(variants), baseline="noop")
    growth = interleaved({"n": run([Reads(), Window()], 2000), "2n": run([Reads(), Window()], 4000)})
    ratio = 2 * statistics.median(growth["2n"]) / statistics.median(growth["n"])
    report(
        "growth: per chunk at n and 2n chunks",
        "us of CPU",
        growth,
        baseline="n",
        note=f"time of 2n over n: {ratio:.2f}",
    )
    requests = {"no policy": per_request([]), "reads the text": per_request([Reads()])}
    report("engine, per request", "us of CPU", interleaved(requests), baseline="no policy")


if __name__ == "__main__":
    main()
