"""The provider of `benchmarks.gateway`, as fast as Python answers: `python -m benchmarks.backend PORT`.

Every POST gets a whole completion, or with `"stream": true` as many chunks as its `seed` says, each in a write of its
own; `"top_p": 0` spaces them by `PAUSE` and puts the moment of sending (monotonic nanoseconds) into each.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 -- no library code, and nothing between it and the socket
import json
import sys
import time
from typing import Any

from benchmarks.traffic import DONE, FINISH, chat_chunk

PAUSE = 0.02
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n"
_WHOLE = json.dumps(
    {
        "id": "chatcmpl-CkJ1vH2mQd7xW0aZ5bT9rY4nE8sL3",
        "object": "chat.completion",
        "created": 1772310506,
        "model": "gpt-4o-mini",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "word " * 40}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49},
    }
).encode()
_READY = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in map(chat_chunk, range(2000))]
_END = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (FINISH, DONE)) + b"0\r\n\r\n"


class Provider(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # of uvloop: no subclass of asyncio.Transport
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self._buffer = body[length:]
        asked = json.loads(body[:length] or b"{}")
        if not asked.get("stream"):
            length_header = b"content-length: %d\r\n" % len(_WHOLE)
            self._transport.write(_HEAD % (b"application/json", length_header) + _WHOLE)
            return
        self._transport.write(_HEAD % (b"text/event-stream", b"transfer-encoding: chunked\r\n"))
        task = asyncio.ensure_future(self._stream(int(asked.get("seed", 1)), asked.get("top_p") == 0))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(self, chunks: int, paced: bool) -> None:
        for number in range(chunks):
            if paced:
                await asyncio.sleep(PAUSE)
                chunk = chat_chunk(0).replace(b'" word0', b'" %d word' % time.monotonic_ns())
                self._transport.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            else:
                self._transport.write(_READY[number])
                await asyncio.sleep(0)
        self._transport.write(_END)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
