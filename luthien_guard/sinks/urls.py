"""Stores by URL: the scheme is the name of an entry point of the group `luthien_guard.sinks`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from luthien_guard.errors import ConfigError
from luthien_guard.records import Sink
from luthien_guard.store import Store

__all__ = ["by_scheme", "file_of", "open_store", "open_tracer", "shown"]

GROUP: Final = "luthien_guard.sinks"
TRACING: Final = "luthien_guard.tracing"


def open_store(url: str) -> Store:
    """The store that the URL names, not opened yet. Raises ConfigError that says what is wrong with it."""
    store: Store = by_scheme(GROUP, url)
    return store


def open_tracer(name: str) -> Sink:
    """The tracing sink of this name (entry-point group `luthien_guard.tracing`). Raises ConfigError."""
    tracer: Sink = _loaded(TRACING, name)()
    return tracer


def by_scheme(group: str, url: str) -> Any:
    """What the entry point of this scheme makes of the URL."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        known = sorted(_installed(group))
        example = "sqlite" if "sqlite" in known or not known else known[0]
        raise ConfigError(f"{shown(url)!r} is no URL: one like {example}://... is expected")
    scheme = scheme.lower()  # RFC 3986, 3.1
    return _loaded(group, scheme)(f"{scheme}://{rest}")


def shown(url: str) -> str:
    """The URL as it may be told and logged: passwords are seen even where the URL is malformed."""
    url = re.sub(r":(?!//).*@", ":***@", url, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def file_of(url: str, scheme: str, end: str) -> Path:
    """The file of `scheme:///relative` and `scheme:////absolute`. Raises ConfigError."""
    # not urlsplit: it drops tabs and newlines, and a path is the whole rest
    host, slash, path = url.removeprefix(f"{scheme}://").partition("/")
    found = unquote(path)
    if host or not slash or not found.strip() or "?" in path or "#" in path or "\0" in found:
        raise ConfigError(
            f"{shown(url)!r}: {scheme}:///relative.{end} or {scheme}:////absolute/path.{end} is expected"
        )
    if found == ":memory:":
        raise ConfigError(f"{url!r}: a store that ends with its process is memory://")
    return Path(found)


def _loaded(group: str, name: str) -> Callable[..., Any]:
    known = _installed(group)
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ConfigError(f"nothing is installed for {name!r}{hint}; there are {', '.join(sorted(known))}")
    try:
        found: Callable[..., Any] = known[name].load()
    except ImportError as error:
        raise ConfigError(f"{name!r} needs a package that is not installed: {error}") from None
    except AttributeError as error:
        raise ConfigError(f"{name!r} is registered wrongly: {error}") from None
    return found


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=group)}
