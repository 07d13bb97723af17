"""Does nothing: what a guard costs, and proof that it changes nothing."""

from __future__ import annotations

from luthien_guard.policy import Policy

__all__ = ["Noop"]


class Noop(Policy):
    """Has no hooks."""
