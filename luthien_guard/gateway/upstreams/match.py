"""Which models and wire formats an upstream is for."""

from __future__ import annotations

import difflib
import fnmatch
import re

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.wire.formats import FORMATS

__all__ = ["Match", "formats_of"]


class Match:
    """Shell patterns over the model's name; case counts, as it does for providers."""

    def __init__(self, patterns: str | list[str]) -> None:
        self.patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        self._found = re.compile("|".join(fnmatch.translate(each) for each in self.patterns)).match

    def __call__(self, model: str) -> bool:
        return self._found(model) is not None


def formats_of(settings: UpstreamSettings, name: str) -> tuple[str, ...]:
    """The wire formats of a native upstream. Raises ConfigError."""
    named = settings.native or []
    formats = (named,) if isinstance(named, str) else tuple(named)
    for each in formats:
        if each not in FORMATS:
            close = difflib.get_close_matches(each, list(FORMATS), n=1, cutoff=0.3)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"upstream {name}: native: unknown wire format {each!r}{hint}")
    return formats
