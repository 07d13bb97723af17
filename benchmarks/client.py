"""What the guarded client adds to litellm's own time per chunk, as process CPU: the same stream with and without it, from
memory as fast as it goes, and over a socket with a pause before each chunk, as models speak."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anyio
import httpx

from benchmarks.sockets import core_of_its_own, server
from benchmarks.table import interleaved, report
from benchmarks.traffic import Changes, Reads, stream_of
from luthien_guard import Guard

CHUNKS = 400
PAUSE = 0.001  # seconds between two chunks
MESSAGES = [{"role": "user", "content": "hi"}]
STREAM = b"".join(stream_of(CHUNKS))


def at_once(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=STREAM)


def asking(ask: Callable[..., Awaitable[Any]], port: int | None = None) -> Callable[[], float]:
    """Microseconds of CPU per chunk that the caller of `ask` gets; without a port, from memory."""
    from openai import AsyncOpenAI

    async def once() -> float:
        transport = httpx.MockTransport(at_once) if port is None else httpx.AsyncHTTPTransport()
        async with AsyncOpenAI(
            api_key="k",
            base_url=f"http://127.0.0.1:{port or 80}/v1",
            http_client=httpx.AsyncClient(transport=transport),
        ) as client:
            stream = await ask(model="openai/gpt-4o", messages=MESSAGES, stream=True, client=client)
            began, count = time.process_time(), 0
            async for _ in stream:
                count += 1
            return (time.process_time() - began) / count * 1e6

    return partial(anyio.run, once)


def measure(how: str, port: int | None = None) -> None:
    import litellm

    variants = {
        "litellm": asking(litellm.acompletion, port),
        "guard, no policies": asking(Guard().acompletion, port),
        "guard, noop": asking(Guard(["noop"]).acompletion, port),
        "guard, reads the text": asking(Guard([Reads()]).acompletion, port),
        "guard, changes every chunk": asking(Guard([Changes()]).acompletion, port),
    }
    found = interleaved(variants, rounds=30)
    title = f"guarded client, per chunk, {how}"
    report(title, "us of CPU", found, baseline="litellm", note="target: med/base <= 1.05")


def main() -> None:
    measure("from memory")
    with core_of_its_own(), server("bare", CHUNKS, PAUSE) as (port, _):
        measure("each waited for", port)


if __name__ == "__main__":
    main()
