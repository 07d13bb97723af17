"""The guard's own start and stop, inside the application's; and a lifespan for applications that have none."""

from __future__ import annotations

from luthien_guard.asgi.types import AppGuard, ASGIApp, Message, Receive, Scope, Send

__all__ = ["Lifespan", "Start"]


class Start:
    """Starts the guard where it does not run, whether a lifespan or a request asks for it: it may have been stopped with
    another application, or be a forked process's."""

    def __init__(self, guard: AppGuard) -> None:
        self._guard = guard
        self._asked = False

    async def __call__(self) -> None:
        if not self._guard.running:
            await self._guard.start()
        self._asked = True

    async def stop(self) -> None:
        """Idempotent. Who has not started it does not stop it."""
        if self._asked:
            self._asked = False
            await self._guard.stop()


class Lifespan:
    """One lifespan scope: starts before the application does, stops after it."""

    def __init__(self, app: ASGIApp, start: Start) -> None:
        self._app = app
        self._start = start
        self._heard = False  # the application has taken lifespan.startup
        self._said = False  # and has answered it
        self._ending = False  # the server has said that it ends

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the scope. Raises what the application raises after it has begun to start."""
        early = False
        try:
            await self._serve(scope, receive, send)
            early = not self._ending  # the server goes on, and so do requests
        finally:
            if not early:  # who fails, is cancelled or just returns says nothing of it
                await self._start.stop()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def inner_receive() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._heard = True
                await self._started(send)
            elif message["type"] == "lifespan.shutdown":
                self._ending = True
            return message

        async def inner_send(message: Message) -> None:
            self._said = True
            if message["type"].startswith("lifespan.shutdown"):
                await self._start.stop()
            await send(message)

        try:
            await self._app(scope, inner_receive, inner_send)
        except Exception:
            if self._heard:  # it knows lifespans, and failed
                raise
        if not self._said:
            await self._alone(receive, send)

    async def _started(self, send: Send) -> None:
        try:
            await self._start()
        except Exception as error:  # told to the server, which would otherwise go on without a guard
            self._said = True
            await send({"type": "lifespan.startup.failed", "message": f"luthien_guard: {error}"})
            raise

    async def _alone(self, receive: Receive, send: Send) -> None:
        """The application refused the scope (Django raises, others return): the guard needs it all the same."""
        if not self._heard:
            await receive()
        await self._started(send)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._start.stop()
        await send({"type": "lifespan.shutdown.complete"})
