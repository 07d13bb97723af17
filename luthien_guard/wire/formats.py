"""The wire formats: what the providers speak, sans-IO. `FORMATS` names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luthien_guard.wire.chat import CHAT
from luthien_guard.wire.format import WireFormat
from luthien_guard.wire.messages import MESSAGES
from luthien_guard.wire.responses import RESPONSES

__all__ = ["FORMATS"]

FORMATS: Final[Mapping[str, WireFormat]] = {each.name: each for each in (CHAT, MESSAGES, RESPONSES)}
