"""How an upstream has fared lately, for `/health`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from luthien_guard.gateway.upstreams.types import Reply, UpstreamError

__all__ = ["UpstreamState"]

_SICK: Final = 3  # failures in a row


@dataclass(slots=True)
class UpstreamState:
    """Counts; `reason` says why it counts as degraded, None while it does not."""

    asked: int = 0
    failed: int = 0
    in_a_row: int = 0
    last: str = ""

    def noted(self, outcome: Reply | UpstreamError) -> None:
        """The provider's 4xx are about the request, and no failure of the upstream."""
        self.asked += 1
        if isinstance(outcome, UpstreamError):
            self._failed(outcome.code)
        elif outcome.status >= 500:
            self._failed(f"status {outcome.status}")
        else:
            self.in_a_row = 0

    def _failed(self, why: str) -> None:
        self.failed += 1
        self.in_a_row += 1
        self.last = why

    @property
    def reason(self) -> str | None:
        return f"{self.in_a_row} failures in a row, the last: {self.last}" if self.in_a_row >= _SICK else None
