"""The guarded client: what replaces litellm's functions."""

from __future__ import annotations

from typing import Any

from luthien_guard.client.functions import acompletion, anthropic_messages, aresponses, completion, guarded

__all__ = ["acompletion", "anthropic_messages", "aresponses", "completion", "guarded"]


def __getattr__(name: str) -> Any:
    if name == "PolicyViolation":
        from luthien_guard.client.litellm_api import violation_type

        return violation_type()
    raise AttributeError(name)
