"""What serving would make of a configuration, made without opening or asking anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from luthien_guard.config.explain import of_file
from luthien_guard.config.load import Loaded, guard_arguments
from luthien_guard.config.settings import GuardConfig
from luthien_guard.engine.plan import Plan
from luthien_guard.errors import ConfigError
from luthien_guard.guard import Guard
from luthien_guard.limits import Limits
from luthien_guard.policy_sets import plans
from luthien_guard.sinks.urls import open_store

__all__ = ["built", "check_replays"]


def built(loaded: Loaded) -> dict[str | None, Plan]:
    """A plan for each set of policies, None for who has none. Raises ConfigError with the file's name."""
    with of_file(loaded.path, loaded.origins):
        arguments = guard_arguments(loaded.config)
        own, sets = arguments.pop("policies"), arguments.pop("policy_sets")
        made = plans(own, sets, mode=arguments["mode"], allow_paths=True)
        Guard(**arguments)  # store, hub, tracing: its policies have their plans already
        _gateway(loaded)
        return made


def check_replays(config: GuardConfig) -> None:
    """Recordings are read when the gateway has started: by then it is late to say that there are none. Raises
    ConfigError."""
    for place in (each.replay for each in config.upstreams if each.replay is not None):
        if "://" in place:
            open_store(place)
        elif not Path(place).expanduser().is_dir():
            raise ConfigError(f"replay: {place} is no folder")


def _gateway(loaded: Loaded) -> None:
    if importlib.util.find_spec("starlette") is None:
        return
    from luthien_guard.gateway.hosts import check_binding
    from luthien_guard.gateway.shared.sharing import Sharing
    from luthien_guard.gateway.upstreams import Upstreams

    check_binding(loaded.config)
    Sharing(loaded, str)
    if loaded.config.upstreams:
        Upstreams(loaded.config.upstreams, Limits())
    check_replays(loaded.config)
