"""Ids of responses as litellm rewrites them: provider, model and the provider's own id in base64, too long for an id.

Policies see the provider's own one, so that it is an identifier where it looks like one and text where it does not.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from luthien_guard.wire.format import is_identifier

__all__ = ["managed_id", "plain_id"]

_PARTS: Final = re.compile(
    r"litellm:custom_llm_provider:([^;]*);model_id:([^;]*);response_id:(.*)", re.DOTALL
)


def managed_id(value: Any) -> str | None:
    """The id that litellm made for a response or for an event that carries one; None where it made none."""
    found = getattr(getattr(value, "response", None) or value, "id", None)
    return found if isinstance(found, str) and plain_id(found) != found else None


def plain_id(managed: str) -> str:
    """The provider's own id in `managed`; `managed` itself where anything else could hide in it."""
    if not managed.startswith("resp_"):
        return managed
    try:
        decoded = base64.b64decode(managed[5:], validate=True).decode()
    except (binascii.Error, ValueError):
        return managed
    parts = _PARTS.fullmatch(decoded)
    if parts is None or not (is_identifier(parts[1]) and is_identifier(parts[2])):
        return managed
    return parts[3]
