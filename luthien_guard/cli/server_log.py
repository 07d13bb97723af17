"""What `serve` logs, every worker alike: the guard says what it loads, uvicorn only what goes wrong."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- what uvicorn runs on
import logging
import time
from typing import Any, Final

from luthien_guard.gateway.bounded import Bounded

__all__ = ["LOGGING"]

LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"}},
    "filters": {"cancelled": {"()": f"{__name__}.Cancelled"}, "garbage": {"()": f"{__name__}.Garbage"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "plain",
            "filters": ["cancelled", "garbage"],
        }
    },
    "loggers": {
        "luthien_guard": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}


class Cancelled(logging.Filter):
    """Leaves out what uvicorn says of each exchange that had not ended in `server.shutdown_timeout`, with where it was: it
    has said how many there are, and their records say which. Also where the gateway itself was, when a second Ctrl-C ended
    its waiting: starlette tells that as a text."""

    _TOLD: Final = f"{asyncio.CancelledError.__module__}.{asyncio.CancelledError.__name__}"

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not (
            isinstance(error, asyncio.CancelledError) or str(record.msg).rstrip().endswith(self._TOLD)
        )


class Garbage(logging.Filter):
    """Bounds what uvicorn says of each connection that speaks no HTTP: who needs no key must not fill a disk."""

    _SAID: Final = "Invalid HTTP request received."

    def __init__(self) -> None:
        super().__init__()
        self._told = Bounded(time.monotonic())

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg != self._SAID:
            return True
        if not self._told.has_room(time.monotonic()):
            self._told.passed_over += 1
            return False
        record.msg += self._told.taken()
        return True
