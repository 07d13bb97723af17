"""An ASGI application on a loopback socket, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import anyio

__all__ = ["serving"]

_TICK: Final = 0.01


@contextmanager
def serving(app: Any, *, lifespan: bool = False, port: int = 0) -> Generator[str]:
    """Serve `app` with uvicorn; gives its URL, "http://127.0.0.1:PORT". Needs the extra `serve`."""
    import uvicorn

    class Server(uvicorn.Server):
        async def main_loop(self) -> None:
            """Sees sooner than every tenth of a second that it is to end: tests start hundreds of these."""
            ticks = 0
            while not await self.on_tick(ticks):
                ticks += 1
                await anyio.sleep(_TICK)

    listener = socket.create_server(("127.0.0.1", port))
    # asyncio sets this only on sockets that say their protocol; accepted ones inherit it
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on" if lifespan else "off",
        loop="asyncio",
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
