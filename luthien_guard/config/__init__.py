"""`guard.yaml`, environment variables and the command line: strict, with the place of what is wrong.

loaded = load_config(Path("guard.yaml"))
guard = Guard(**guard_arguments(loaded.config))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthien_guard.config.explain import of_file
from luthien_guard.config.load import Loaded, config_from_environment, guard_arguments, load_config
from luthien_guard.config.settings import GuardConfig

__all__ = [
    "GuardConfig",
    "Loaded",
    "config_from_environment",
    "guard_arguments",
    "load_config",
    "of_file",
    "read_config",
]


def read_config(path: Path) -> dict[str, Any]:
    """The arguments for `Guard(...)`, with what the environment sets over the file. Raises ConfigError."""
    return guard_arguments(load_config(path).config)
