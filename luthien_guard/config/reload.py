"""New policies without a restart: on SIGHUP, and when the file changes.

    guard = Guard.from_config("guard.yaml")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Reloader(guard, Path("guard.yaml")).run)

The new set is built whole, in a worker thread, and swapped between exchanges. A file that is wrong changes nothing and
is told in the log and in `guard.config_status`.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

from luthien_guard.config.explain import in_file, of_file
from luthien_guard.config.load import Loaded, guard_arguments, load_config
from luthien_guard.config.settings import GuardConfig
from luthien_guard.config.yaml_file import Stamp, stamp_of
from luthien_guard.errors import ConfigError
from luthien_guard.guard import Guard

__all__ = ["ConfigStatus", "Reloader"]

logger = logging.getLogger("luthien_guard")

#: What a new file changes in a guard that runs; everything else waits for a restart.
_LIVE: Final = frozenset({"policies", "policy_sets", "mode"})
_NO_FILE: Final[Stamp] = (-1, -1, -1)


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """`version` counts the policy sets of this process from 1; `error` is what is wrong with the file now (the set
    before it stays); `pending` names the settings that differ and take effect with the next start."""

    path: Path
    version: int = 1
    loaded_at: float = 0.0  # Unix seconds
    error: str | None = None
    pending: tuple[str, ...] = ()


class Reloader:
    """Watches one file for one guard. `load` reads it (default: with the environment, without options); `interval` is
    seconds between two looks, 0 for none; `accepted` is told what took effect; `error` is what is wrong with the file from
    the start; `made_of` is what the guard was made of (default: what `Guard.from_config` read): a file that has changed
    since is loaded at the first look. What was given to `Guard.from_config` over the file stays over it."""

    def __init__(
        self,
        guard: Guard,
        path: Path,
        *,
        load: Callable[[], Loaded] | None = None,
        interval: float = 1.0,
        accepted: Callable[[Loaded], None] = lambda _: None,
        error: str | None = None,
        made_of: Loaded | None = None,
    ) -> None:
        self._guard = guard
        self._path = path
        self._load = load or (lambda: load_config(path))
        self._interval = interval
        self._accepted = accepted
        self._lock = anyio.Lock()
        made_of = made_of or guard.made_of
        self._seen = _stamp_read(made_of, path)
        self._first = made_of or _or_none(self._load)
        self.status = ConfigStatus(path, loaded_at=time.time(), error=error)
        guard.config_status = self.status

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            if self._interval > 0:
                tasks.start_soon(self._watch_file)
            if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
                tasks.start_soon(self._watch_signal)

    async def reload(self) -> bool:
        """Read the file now; True when its policies are in effect."""
        async with self._lock:
            try:
                loaded, made = await to_thread.run_sync(self._made)
                await self._guard.prepare(made)
            except (Exception, SystemExit) as error:  # noqa: BLE001 -- a policy's own code may raise anything
                text = _problem(error, self._path)
                self._tell(error=text)
                logger.error("configuration not reloaded, the one before it stays: %s", text)
                return False
            before = self._guard.policies
            self._guard.adopt(made)
            self._accept(loaded)
            pending = self._pending(loaded.config)
            self._tell(version=self.status.version + 1, loaded_at=time.time(), error=None, pending=pending)
            logger.info("configuration reloaded: %s -> %s", _named(before), _named(self._guard.policies))
            if pending:
                logger.warning("%s: changed, and in effect after a restart only", ", ".join(pending))
            return True

    # ------------------------------------------------------------------------------------------------------------------

    async def _watch_file(self) -> None:
        """A file that is being written is left alone until two looks find it the same: half of one may be valid."""
        changed = False
        while True:
            await anyio.sleep(self._interval)
            stamp = await to_thread.run_sync(stamp_of, self._path)
            if stamp != self._seen:
                self._seen, changed = stamp, True
            elif changed:
                changed = False
                await self.reload()

    async def _watch_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                await self.reload()

    def _made(self) -> tuple[Loaded, Guard]:
        loaded = self._load()
        arguments = guard_arguments(loaded.config)
        given = {**arguments, **self._guard.overrides}
        with of_file(loaded.path, loaded.origins):
            return loaded, Guard(**{name: given[name] for name in (*_LIVE, "allow_paths")})

    def _accept(self, loaded: Loaded) -> None:
        """What took effect stays in effect, whatever becomes of who is told."""
        try:
            self._accepted(loaded)
        except OSError as error:
            logger.error("what was reloaded cannot be kept for workers that come later: %s", error)

    def _pending(self, config: GuardConfig) -> tuple[str, ...]:
        if self._first is None:
            return ()
        return tuple(
            name
            for name in GuardConfig.model_fields
            if name not in _LIVE and getattr(config, name) != getattr(self._first.config, name)
        )

    def _tell(self, **changes: Any) -> None:
        self.status = self._guard.config_status = replace(self.status, **changes)


def _stamp_read(made_of: Loaded | None, path: Path) -> Stamp | None:
    """Of the file as it was when the guard was made of it. Of what else it was made nobody knows: the first look loads
    the file then."""
    file = None if made_of is None else made_of.origins.file
    return file.stamp if file is not None and file.path.absolute() == path.absolute() else _NO_FILE


def _or_none(load: Callable[[], Loaded]) -> Loaded | None:
    try:
        return load()
    except ConfigError:
        return None


def _problem(error: BaseException, path: Path) -> str:
    """With the file's name; of what is no ConfigError the kind, and one line."""
    if not isinstance(error, ConfigError):
        return f"{path}: {type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    return in_file(error, path)


def _named(policies: tuple[str, ...]) -> str:
    return ", ".join(policies) or "no policies"
