"""What is kept of a key's text: its HMAC-SHA-256 under the pepper of the deployment."""

from __future__ import annotations

import hmac
from pathlib import Path

from luthien_guard.callers import pepper_of
from luthien_guard.errors import ConfigError

__all__ = ["Pepper"]


class Pepper:
    """Read on first use: `given`, else LUTHIEN_PEPPER, else the file in `folder`."""

    def __init__(self, folder: Path, given: bytes | None = None) -> None:
        self._folder = folder
        self._found = given

    def mac(self, text: str) -> bytes:
        """Raises ConfigError for a pepper that is none."""
        if self._found is None:
            pepper = pepper_of(self._folder)
            if len(pepper) < 32:
                raise ConfigError(
                    f"{self._folder / 'pepper'}: 32 bytes are expected; an empty pepper is none"
                )
            self._found = pepper
        return hmac.digest(self._found, text.encode(), "sha256")

    @property
    def mark(self) -> str:
        """Tells two peppers apart, and nothing else."""
        return self.mac("luthien_guard pepper").hex()[:12]
