"""The whole extension surface: what a policy may implement.

`None` always means "no opinion: leave it"; a verdict is `Block`, `Abort` or `Retry`. Hooks may be `def` or `async def`
and may take any subset of the arguments. Where several policies implement a hook they run as a chain, in the order of
the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
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
    from luthien_guard.exchange import ChatRequest, Outcome
    from luthien_guard.policy import PolicyContext

hookspec = pluggy.HookspecMarker("luthien_guard")


@hookspec
def on_request_started(request: ChatRequest, ctx: PolicyContext) -> Any:
    """The request, before anything is sent. May return a changed request or a verdict."""


@hookspec
def on_request_completed(request: ChatRequest, ctx: PolicyContext) -> Any:
    """What is really sent upstream, after all policies. May return a verdict; nothing is sent when it fails."""


@hookspec
def on_chunk_started(chunk: Chunk, ctx: PolicyContext) -> Any:
    """Every wire unit before its events. May return a changed chunk, a list of chunks ([] drops it) or a
    verdict."""


@hookspec
def on_response_started(response: ResponseStarted, ctx: PolicyContext) -> Any:
    """Status of the response; model and id where its first chunk says them. May return a verdict."""


@hookspec
def on_content_chunk(chunk: ContentChunk, ctx: PolicyContext) -> Any:
    """Each piece of text, all channels. May return a changed chunk, a list of chunks or a verdict."""


@hookspec
def on_tool_call_chunk(chunk: ToolCallChunk, ctx: PolicyContext) -> Any:
    """Each fragment of a tool call's arguments; implementing it holds the call. May return a changed chunk, a list of
    chunks or a verdict."""


@hookspec
def on_content_completed(content: ContentCompleted, ctx: PolicyContext) -> Any:
    """A whole block of text; implementing it holds the block. May return changed content or a verdict."""


@hookspec
def on_tool_call_completed(call: ToolCall, ctx: PolicyContext) -> Any:
    """A whole tool call; implementing it holds the call. May return a changed call, a `str` that replaces it, or
    a verdict."""


@hookspec
def on_unknown_chunk(chunk: UnknownChunk, ctx: PolicyContext) -> Any:
    """A chunk of unknown kind, or one that could not be read. May return True (let it through), [] (drop it)
    or a verdict."""


@hookspec
def on_chunk_completed(chunk: Chunk, ctx: PolicyContext) -> Any:
    """Every wire unit as it is about to leave, after its events. May return a changed chunk, a list of chunks
    ([] drops it) or a verdict."""


@hookspec
def on_response_completed(response: ResponseCompleted, ctx: PolicyContext) -> Any:
    """The assembled response. Observes; a policy with `hold = "response"` may return a verdict."""


@hookspec
def on_error(error: ResponseFailed, ctx: PolicyContext) -> Any:
    """The upstream failed, or a policy did. Observes."""


@hookspec
def on_exchange_closed(outcome: Outcome, ctx: PolicyContext) -> Any:
    """The end of the exchange: called exactly once, whatever happened, cancellation included. Observes."""
