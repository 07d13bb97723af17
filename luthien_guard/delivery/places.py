"""Where records go: the store and the hub that a URL names, and the folder of what stands before them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from luthien_guard.errors import set_at
from luthien_guard.pubsub import PubSub
from luthien_guard.store import Store

__all__ = ["folder_for", "hub_at", "store_at"]


def store_at(store: str | Store) -> Store:
    if not isinstance(store, str):
        return store
    from luthien_guard.sinks.urls import open_store  # loaded for who has a store

    with set_at("store"):
        return open_store(store)


def hub_at(hub: str | PubSub | None) -> PubSub | None:
    if not isinstance(hub, str):
        return hub
    from luthien_guard.sinks.pubsub import open_pubsub

    with set_at("pubsub"):
        return open_pubsub(hub)


def folder_for(store: Store, url: str | None) -> Path:
    path: Path | None = getattr(store, "path", None)
    if path is not None:
        return path.with_name(f"{path.name}-guard")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "luthien-guard"
    name = type(store).__name__ if url is None else _without_password(url)
    return data / "stores" / hashlib.sha256(name.encode()).hexdigest()[:16]


def _without_password(url: str) -> str:
    """A new password is no new database: what waits in the spool still has to get there."""
    try:
        parts = urlsplit(url)
    except ValueError:  # nothing that we know how to read
        return url
    who, at, host = parts.netloc.rpartition("@")
    query = "&".join(each for each in parts.query.split("&") if not each.lower().startswith("password="))
    return parts._replace(netloc=f"{who.partition(':')[0]}{at}{host}", query=query).geturl()
