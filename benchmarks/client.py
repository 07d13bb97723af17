"""What the guarded client adds to litellm's own time per chunk: the same stream, from memory, with and without it."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anyio
import httpx

from benchmarks.table import interleaved, report
from benchmarks.traffic import Changes, Reads, stream_of
from luthien_guard import Guard

CHUNKS = 400
MESSAGES = [{"role": "user", "content": "hi"}]


def asking(ask: Callable[..., Awaitable[Any]]) -> Callable[[], float]:
    """Microseconds of CPU per chunk that the caller of `ask` gets."""
    from openai import AsyncOpenAI

    body = b"".join(stream_of(CHUNKS))

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    async def once() -> float:
        transport = httpx.MockTransport(answer)
        client = AsyncOpenAI(
            api_key="k", base_url="http://h/v1", http_client=httpx.AsyncClient(transport=transport)
        )
        stream = await ask(model="openai/gpt-4o", messages=MESSAGES, stream=True, client=client)
        began, count = time.process_time(), 0
        async for _ in stream:
            count += 1
        return (time.process_time() - began) / count * 1e6

    return lambda: anyio.run(once)


def main() -> None:
    import litellm

    variants = {
        "litellm": asking(litellm.acompletion),
        "guard, no policies": asking(Guard().acompletion),
        "guard, noop": asking(Guard(["noop"]).acompletion),
        "guard, reads the text": asking(Guard([Reads()]).acompletion),
        "guard, changes every chunk": asking(Guard([Changes()]).acompletion),
    }
    found = interleaved(variants, rounds=15)
    report(
        "guarded client, per chunk", "us of CPU", found, baseline="litellm", note="target: med/base <= 1.05"
    )


if __name__ == "__main__":
    main()
