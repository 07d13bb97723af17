"""A script as the bytes of each provider, streamed and whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from luthien_guard.testing.rendering import chat, messages, responses
from luthien_guard.testing.rendering.parts import Part, Rendering
from luthien_guard.testing.script import Script

__all__ = ["Part", "Rendering", "render"]

_RENDERERS: Final[Mapping[str, Callable[..., Rendering]]] = {
    "openai.chat": chat.render,
    "anthropic.messages": messages.render,
    "openai.responses": responses.render,
}


def render(script: Script, wire_format: str, *, stream: bool) -> Rendering:
    """What an upstream of this wire format sends for `script`. Raises ValueError for a format that cannot say it."""
    if wire_format not in script.wire_formats:
        raise ValueError(f"{wire_format} cannot say this script: only {', '.join(script.wire_formats)}")
    return _RENDERERS[wire_format](script, stream=stream)
