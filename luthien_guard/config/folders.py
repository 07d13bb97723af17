"""Where this user's data of the library lives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["data_folder", "private_folder"]


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """XDG_DATA_HOME/luthien-guard, by default under ~/.local/share. It need not exist."""
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "luthien-guard"


def private_folder(folder: Path) -> Path:
    """Make it, for this user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
