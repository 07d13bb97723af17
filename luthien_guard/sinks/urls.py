"""Stores by URL: the scheme is the name of an entry point of the group `luthien_guard.sinks`."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from luthien_guard.errors import ConfigError
from luthien_guard.store import Store

__all__ = ["by_scheme", "open_store"]

GROUP: Final = "luthien_guard.sinks"


def open_store(url: str) -> Store:
    """The store that the URL names, not opened yet. Raises ConfigError that says what is wrong with it."""
    store: Store = by_scheme(GROUP, url)
    return store


def by_scheme(group: str, url: str) -> Any:
    """What the entry point of this scheme makes of the URL."""
    scheme, separator, _ = url.partition("://")
    known = _installed(group)
    if not separator:
        raise ConfigError(
            f"{url!r} is no URL: one like {next(iter(sorted(known)), 'sqlite')}://... is expected"
        )
    if scheme not in known:
        close = difflib.get_close_matches(scheme, list(known), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}://?)" if close else ""
        raise ConfigError(
            f"{scheme}://: nothing is installed for it{hint}; there are {', '.join(sorted(known))}"
        )
    try:
        make = known[scheme].load()
    except ImportError as error:
        raise ConfigError(f"{scheme}:// needs a package that is not installed: {error}") from None
    return make(url)


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=group)}
