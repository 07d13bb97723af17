"""Hubs by URL: who hears that something was stored."""

from __future__ import annotations

from typing import Final

from luthien_guard.pubsub import PubSub
from luthien_guard.sinks.urls import by_scheme

__all__ = ["open_pubsub"]

GROUP: Final = "luthien_guard.pubsub"


def open_pubsub(url: str) -> PubSub:
    """The hub that the URL names (its scheme is the name of an entry point of `luthien_guard.pubsub`), not opened yet.
    Raises ConfigError."""
    hub: PubSub = by_scheme(GROUP, url)
    return hub
