"""The processes of `serve --workers N`, and the one that watches them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from luthien_guard.cli.ending import SIGNALS
from luthien_guard.cli.serving import lasting
from luthien_guard.gateway import factory

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["APPLICATION", "Supervisor", "application"]

logger = logging.getLogger("luthien_guard")

#: What a worker serves, as uvicorn is told it.
APPLICATION: Final = f"{__name__}:application"
_PATIENCE: Final = 60.0  # seconds for all workers to start
_LOOK: Final = 0.2


def application() -> Starlette:
    """Of one worker, which ends in order when the process that watches it is gone: nobody would start another in its
    place, or could serve another configuration at this port. Raises ConfigError."""
    threading.Thread(target=_end_after, args=[multiprocessing.parent_process()], daemon=True).start()
    return lasting(factory.application())


def _end_after(parent: Any) -> None:
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class Supervisor(Multiprocess):
    """`up` is called when all workers take requests. `failed`: one did not start, so that it ended by itself."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], up: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self.failed = False
        self._up = up

    def init_processes(self) -> None:
        super().init_processes()
        end = time.monotonic() + _PATIENCE
        if all(self._is_up(each, end) for each in self.processes):
            self._up()

    def keep_subprocess_alive(self) -> None:
        if self.should_exit.is_set():
            return
        before = list(self.processes)
        super().keep_subprocess_alive()
        self.failed = self.should_exit.is_set()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                logger.error("worker %s ended (%s), worker %s takes its place", old.pid, _why(old), new.pid)

    def handle_hup(self) -> None:
        """Workers load new policies between two exchanges; uvicorn's own way would start new processes."""
        for each in self.processes:
            if each.pid is not None and each.is_alive():
                os.kill(each.pid, signal.SIGHUP)

    def _is_up(self, process: Any, end: float) -> bool:
        """A signal that comes meanwhile waits in uvicorn's queue, but not for all workers: what has not started serves
        nobody, and need not end in order."""
        while not process.wait_until_ready(_LOOK):
            if not self.should_exit.is_set() and set(SIGNALS) & set(self.signal_queue):
                self.should_exit.set()
                for each in self.processes:
                    if not each.is_ready(_LOOK):
                        each.process.kill()
            if self.should_exit.is_set() or time.monotonic() > end or not process.process.is_alive():
                return False
        return True


def _why(process: Any) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
