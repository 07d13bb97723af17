"""Which services a configuration names, and their drivers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from luthien_guard.config.folders import data_folder
from luthien_guard.config.load import Loaded, config_from_environment
from luthien_guard.config.settings import AuthSettings, GuardConfig
from luthien_guard.config.yaml_file import Place
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.key import Keys
from luthien_guard.gateway.keys import KeyFile
from luthien_guard.gateway.pepper import Pepper
from luthien_guard.gateway.shared.keys import SharedKeys
from luthien_guard.gateway.shared.reach import Reach
from luthien_guard.gateway.shared.service import KeyTable, Shared
from luthien_guard.sinks.urls import shown

__all__ = ["fleet_of", "keys_of", "located", "open_shared", "shared_url"]

T = TypeVar("T")

MEMORY: Final = "memory://"
_REDIS: Final = ("redis", "rediss")
_POSTGRESQL: Final = ("postgresql", "postgres")
_DRIVERS: Final = (
    {"sqlite": "sqlite"} | dict.fromkeys(_POSTGRESQL, "postgresql") | dict.fromkeys(_REDIS, "redis")
)
_KEYS_DEADLINE: Final = 1.0  # seconds: who is not known can only wait


def shared_url(config: GuardConfig) -> tuple[Place, str]:
    """The service that workers share, and the setting that names it: `auth.shared`, else what records use already, else
    a file for the workers of this machine."""
    if config.auth.shared is not None:
        return ("auth", "shared"), config.auth.shared
    if _scheme(config.pubsub) in _REDIS:
        return ("pubsub",), config.pubsub or ""
    if _scheme(config.store) in _POSTGRESQL:
        return ("store",), config.store or ""
    if config.server.workers > 1:
        return ("server", "workers"), f"sqlite:///{quote(str(data_folder() / 'shared.db'))}"
    return ("auth", "shared"), MEMORY


def fleet_of(loaded: Loaded) -> str:
    """Whose policies should be alike. On one machine, by default, whoever reads the same file; a service of many machines
    has seen none of their files."""
    _, url = shared_url(loaded.config)
    path = config_from_environment() or loaded.path
    if loaded.config.server.fleet is None and _scheme(url) == "sqlite" and path is not None:
        return str(path.absolute())
    return loaded.config.server.fleet or "default"


def open_shared(url: str) -> Shared | None:
    """None for what one process shares with nobody. Asks nobody yet. Raises ConfigError."""
    return (
        None
        if url == MEMORY
        else _driver(url, "memory://, sqlite:///path, postgresql://... or redis://...", _DRIVERS)
    )


def keys_of(settings: AuthSettings, table: Callable[[str], KeyTable | None] = lambda url: None) -> Keys:
    """Where the keys of this configuration are. `table` may know a service of that URL that is open. Raises
    ConfigError."""
    named = settings.keys
    if named is None or "://" not in named:
        return KeyFile(Path(named).expanduser() if named else data_folder() / "keys.db")
    remote = {scheme: name for scheme, name in _DRIVERS.items() if name != "sqlite"}
    found: KeyTable = table(named) or _driver(named, "a path, postgresql://... or redis://...", remote)
    deadline = max(_KEYS_DEADLINE, settings.shared_timeout)
    reach = Reach(found.place, what="the database of the keys", deadline=deadline)
    return SharedKeys(found, Pepper(data_folder()), reach=reach, grace=settings.keys_grace)


def located(loaded: Loaded, place: Place, make: Callable[[], T]) -> T:
    """What `make` gives; its ConfigError says which setting is wrong, and where that stands."""
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"{loaded.origins.of(place)}: {'.'.join(map(str, place))}: {error}") from None


def _driver(url: str, expected: str, drivers: dict[str, str]) -> Any:
    name = drivers.get(_scheme(url))
    if name is None:
        raise ConfigError(f"{shown(url)!r}: {expected} is expected")
    try:
        return import_module(f"luthien_guard.gateway.shared.{name}").from_url(url)
    except ImportError as error:
        raise ConfigError(f"{name} needs a package that is not installed: {error}") from None


def _scheme(url: str | None) -> str:
    scheme, separator, _ = (url or "").partition("://")
    return scheme.lower() if separator else ""
