"""Put LLM traffic under policy, inside the application that makes or serves it.

    from luthien_guard import Guard, GuardMiddleware
    app.add_middleware(GuardMiddleware, guard=Guard(policies=["tool-call-judge"]))

Names are imported when they are first used, so that `import luthien_guard` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from luthien_guard.asgi import GuardMiddleware, current_exchange
    from luthien_guard.client import acompletion, anthropic_messages, aresponses, completion
    from luthien_guard.errors import (
        ConfigError,
        IllegalOutput,
        LuthienError,
        PolicyError,
        SinkError,
        WireError,
    )
    from luthien_guard.events import (
        Chunk,
        ContentChunk,
        ContentCompleted,
        ResponseCompleted,
        ResponseFailed,
        ResponseStarted,
        ToolCall,
        ToolCallChunk,
        UnknownChunk,
    )
    from luthien_guard.exchange import ChatRequest, Outcome, OutcomeStatus
    from luthien_guard.guard import Guard
    from luthien_guard.limits import Limits
    from luthien_guard.policy import (
        Abort,
        Block,
        ObservabilityContext,
        Policy,
        PolicyContext,
        Retry,
        hookimpl,
    )

__version__ = "0.1.0"

_HOMES: Final = {
    "asgi": ("GuardMiddleware", "current_exchange"),
    "client": ("acompletion", "anthropic_messages", "aresponses", "completion"),
    "errors": ("ConfigError", "IllegalOutput", "LuthienError", "PolicyError", "SinkError", "WireError"),
    "events": (
        "Chunk",
        "ContentChunk",
        "ContentCompleted",
        "ResponseCompleted",
        "ResponseFailed",
        "ResponseStarted",
        "ToolCall",
        "ToolCallChunk",
        "UnknownChunk",
    ),
    "exchange": ("ChatRequest", "Outcome", "OutcomeStatus"),
    "guard": ("Guard",),
    "limits": ("Limits",),
    "policy": ("Abort", "Block", "ObservabilityContext", "Policy", "PolicyContext", "Retry", "hookimpl"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Abort",
    "Block",
    "ChatRequest",
    "Chunk",
    "ConfigError",
    "ContentChunk",
    "ContentCompleted",
    "Guard",
    "GuardMiddleware",
    "IllegalOutput",
    "Limits",
    "LuthienError",
    "ObservabilityContext",
    "Outcome",
    "OutcomeStatus",
    "Policy",
    "PolicyContext",
    "PolicyError",
    "ResponseCompleted",
    "ResponseFailed",
    "ResponseStarted",
    "Retry",
    "SinkError",
    "ToolCall",
    "ToolCallChunk",
    "UnknownChunk",
    "WireError",
    "acompletion",
    "anthropic_messages",
    "aresponses",
    "completion",
    "current_exchange",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
