"""A worker that dies while the file is wrong is replaced by one that serves what the others serve: the workers of one
`serve` keep a copy of the file as it was when it was last right."""

from __future__ import annotations

import os
from pathlib import Path

from luthien_guard.config.environment import LAST_GOOD
from luthien_guard.config.load import Loaded

__all__ = ["last_good", "remember"]


def last_good() -> Path | None:
    """The copy, if this process belongs to a `serve` that keeps one."""
    named = os.environ.get(LAST_GOOD)
    return Path(named) if named and Path(named).is_file() else None


def remember(loaded: Loaded) -> None:
    """Keep the text that was validated, not the file, which may be another by now."""
    named, file = os.environ.get(LAST_GOOD), loaded.origins.file
    if not named or file is None or str(file.path) == named:
        return
    scratch = Path(f"{named}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as copy:
        copy.write(file.text)
    scratch.replace(named)
