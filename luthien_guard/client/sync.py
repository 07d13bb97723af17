"""`completion` for code without an event loop: the same exchange, on a loop of its own in another thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from luthien_guard.client.litellm_api import litellm

__all__ = ["run_sync"]


def run_sync(function: Callable[[], Awaitable[Any]]) -> Any:
    """The result of the async function; a stream becomes a plain iterator which keeps the loop until it ends."""
    keeper = start_blocking_portal("asyncio")
    portal = keeper.__enter__()
    try:
        result = portal.call(function)
    except BaseException:
        keeper.__exit__(None, None, None)
        raise
    if hasattr(result, "__anext__"):
        return _sync_stream(result, portal, keeper)
    keeper.__exit__(None, None, None)
    return result


def _sync_stream(stream: Any, portal: BlockingPortal, keeper: AbstractContextManager[BlockingPortal]) -> Any:
    base: Any = litellm().CustomStreamWrapper

    class SyncStream(base):  # type: ignore[misc]
        """What `completion(stream=True)` gives: litellm's stream class, iterated plainly."""

        def __init__(self) -> None:
            self._open = True

        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            if not self._open:
                raise StopIteration
            try:
                return portal.call(stream.__anext__)
            except StopAsyncIteration:
                self.close()
                raise StopIteration from None
            except BaseException:
                self.close()
                raise

        def close(self) -> None:
            """End the exchange and its loop."""
            if self._open:
                self._open = False
                portal.call(stream.aclose)
                keeper.__exit__(None, None, None)

        def __getattr__(self, name: str) -> Any:
            return getattr(stream, name)

        def __del__(self) -> None:
            if self.__dict__.get("_open"):
                self.close()

    return SyncStream()
