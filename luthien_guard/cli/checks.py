"""The checks of `doctor`, one function each."""

from __future__ import annotations

import http.client
import importlib.util
import shutil
import ssl
import stat
import time
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from luthien_guard.config.folders import data_folder
from luthien_guard.config.load import Loaded
from luthien_guard.config.masking import masked
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.sinks.urls import open_store

__all__ = ["Finding", "address", "clock", "disk", "extras", "keys", "port", "reachable", "shared"]

State = Literal["ok", "warning", "failure"]
_SKEW: Final = 30.0  # seconds; `Date` has whole seconds, and the answer was on its way
_FREE: Final = (100 * 1024**2, 1024**3)  # bytes: below is broken, below is a warning
_TIMEOUT: Final = 5.0
_NATIVE: Final = {"anthropic.messages": "https://api.anthropic.com"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    state: State
    says: str


def extras(loaded: Loaded) -> Finding:
    """Packages that this configuration needs."""
    wanted = {"uvicorn": "serve", "starlette": "serve", "aiohttp": "serve"}
    if loaded.config.server.metrics:
        wanted["prometheus_client"] = "prometheus"
    missing = {extra: name for name, extra in wanted.items() if importlib.util.find_spec(name) is None}
    if not missing:
        return Finding("packages", "ok", "all there")
    says = f"missing: {', '.join(missing.values())} (pip install 'luthien-guard[{','.join(missing)}]')"
    return Finding("packages", "failure" if "serve" in missing else "warning", says)


def port(loaded: Loaded) -> Finding:
    """Free, or taken by a gateway that answers, or taken by somebody else."""
    from luthien_guard.cli.background import is_gateway
    from luthien_guard.cli.serving import bound, url_of

    server = loaded.config.server
    where = f"{server.host}:{server.port}"
    try:
        bound(server.host, server.port).close()
    except ConfigError as error:
        if is_gateway(url_of(server.host, server.port)):
            return Finding("port", "ok", f"a gateway answers on {where}")
        return Finding("port", "failure", str(error))
    return Finding("port", "ok", f"{where} is free")


def keys(loaded: Loaded) -> Finding:
    """There are some where they are needed, and nobody else can read what they hang on."""
    from luthien_guard.gateway.keys import KeyFile
    from luthien_guard.gateway.shared.urls import keys_of, located

    auth = loaded.config.auth
    try:
        with closing(located(loaded, ("auth", "keys"), lambda: keys_of(auth))) as found:
            folder = found.path.parent if isinstance(found, KeyFile) else data_folder()
            for path in (folder / "pepper", *([found.path] if isinstance(found, KeyFile) else [])):
                if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    return Finding("keys", "failure", f"{path} can be read by others: chmod 600 it")
            active = sum(1 for key in found.all() if key.state(time.time()) == "active")
    except ConfigError as error:
        return Finding("keys", "failure", str(error))
    if auth.mode == "client_key" and not active:
        return Finding(
            "keys", "failure", "auth.mode is client_key and no key is active: luthien-guard keys create"
        )
    return Finding("keys", "ok", f"auth.mode {auth.mode}, {active} active")


def shared(loaded: Loaded) -> Finding:
    """What workers share answers, and those that run have the same policies."""
    import anyio

    from luthien_guard.gateway.shared.urls import fleet_of, located, open_shared, shared_url

    place, url = shared_url(loaded.config)
    try:
        service = located(loaded, place, lambda: open_shared(url))
        if service is None:
            return Finding("shared", "ok", "nothing: each worker counts alone")
        with closing(service):
            versions = anyio.run(service.announce, fleet_of(loaded), "doctor", "", 0.0)
    except ConfigError as error:
        return Finding("shared", "failure", str(error))
    except SinkError as error:  # each worker would count alone
        refuses = loaded.config.auth.unshared == "refuse"
        return Finding("shared", "failure" if refuses else "warning", str(error))
    different = sorted(set(versions.values()))
    run = f"{service.place} answers, {len(versions)} workers run"
    if len(different) > 1:
        return Finding("shared", "warning", f"{run} {len(different)} versions: {', '.join(different)}")
    return Finding("shared", "ok", f"{run}{f' {different[0]}' if different else ''}")


def disk(loaded: Loaded) -> Finding:
    """Room where records go."""
    path = _file_of(loaded.config.store)
    folder = data_folder() if path is None else path.parent.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state: State = "failure" if free < _FREE[0] else "warning" if free < _FREE[1] else "ok"
    return Finding("disk", state, f"{free / 1024**3:.1f} GiB free at {folder}")


def reachable(settings: UpstreamSettings, name: str) -> tuple[Finding, float | None]:
    """Whether the upstream answers at all (any status will do), and by how many seconds our clock is ahead of its."""
    what = f"upstream {name}"
    if settings.replay is not None:
        there = "://" in settings.replay or Path(settings.replay).expanduser().is_dir()
        says = "a store" if "://" in settings.replay else "folder" if there else "no folder"
        return Finding(what, "ok" if there else "failure", f"{masked(settings.replay)}: {says}"), None
    if settings.native is None and settings.base_url is None:
        return Finding(what, "ok", "litellm decides by the model: not asked"), None
    url = address(settings)
    try:
        date = _asked(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Finding(what, "failure", f"{_shown(url)} does not answer: {_reason(error)}"), None
    return Finding(what, "ok", f"{_shown(url)} answers"), _offset(date)


def address(settings: UpstreamSettings) -> str:
    """Where the upstream is asked; of several public ones, where in its first wire format."""
    formats = [settings.native] if isinstance(settings.native, str) else settings.native or [""]
    return settings.base_url or _NATIVE.get(formats[0], "https://api.openai.com/v1")


def clock(offset: float | None) -> Finding:
    """Expiring keys, records and TLS all believe our clock."""
    if offset is None:
        return Finding("clock", "ok", "no upstream said what time it is: not compared")
    if abs(offset) > _SKEW:
        return Finding(
            "clock", "warning", f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} an upstream's"
        )
    return Finding("clock", "ok", "agrees with an upstream's")


# ----------------------------------------------------------------------------------------------------------------------


def _file_of(store: str | None) -> Path | None:
    """None for a store that is no file, or none at all: what is wrong with it the plan says."""
    try:
        return None if store is None else getattr(open_store(store), "path", None)
    except ConfigError:
        return None


def _asked(url: str) -> str | None:
    """The `Date` of an answer to HEAD, without any credential."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) URL")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)
    try:
        connection.request("HEAD", parts.path or "/")
        return connection.getresponse().getheader("date")
    finally:
        connection.close()


def _offset(date: str | None) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return f"nothing within {_TIMEOUT:g} s"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return str(masked(url))
    return f"{parts.scheme}://{parts.hostname}{port}"
