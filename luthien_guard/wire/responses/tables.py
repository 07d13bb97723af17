"""What the format knows: the kinds of items, parts and events, and which strings are identifiers or enumerations."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from luthien_guard.events import Channel, ToolKind

__all__ = [
    "CALLS",
    "CALL_EVENTS",
    "DELTAS",
    "DONES",
    "EVENT",
    "ITEM",
    "OF_PARTS",
    "PART",
    "PARTS",
    "PREVIEWS",
    "PROGRESS",
    "RESPONSE",
    "RESPONSES",
    "TERMINAL",
    "VOICES",
    "TextEvent",
]

#: Which strings of an object are identifiers or enumerations while they look like it: a name (`""`) or an object.
Envelope: TypeAlias = "dict[str, Any]"


def _ids(names: str, **inner: Envelope) -> Envelope:
    return {**dict.fromkeys(names.split(), ""), **inner}


EVENT: Final = _ids("type item_id obfuscation size quality background output_format")
RESPONSE: Final = _ids(
    "id object model status service_tier previous_response_id truncation tool_choice prompt_cache_key "
    "prompt_cache_retention safety_identifier user",
    text=_ids("verbosity", format=_ids("type name")),
    reasoning=_ids("effort summary generate_summary"),
    incomplete_details=_ids("reason"),
    conversation=_ids("id"),
    error=_ids("type code param"),
)
ITEM: Final = _ids(
    "id type status role call_id server_label container_id phase namespace execution approval_request_id "
    "response_id size quality background output_format",
    environment=_ids("type container_id"),
    caller=_ids("type caller_id"),
)
PART: Final = _ids("type")
#: Items that consist of lists of parts.
OF_PARTS: Final = ("message", "reasoning")

#: The events that carry the whole response, and those of them that end it.
TERMINAL: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)
RESPONSES: Final = TERMINAL | {"response.created", "response.in_progress", "response.queued"}


class TextEvent(NamedTuple):
    """Which of an item's texts an event speaks of (`kind` and the index called `part`), and under which name."""

    kind: str
    channel: Channel
    part: str
    field: str


DELTAS: Final[dict[str, TextEvent]] = {
    "response.output_text.delta": TextEvent("text", "content", "content_index", "delta"),
    "response.refusal.delta": TextEvent("refusal", "refusal", "content_index", "delta"),
    "response.reasoning_text.delta": TextEvent("reasoning", "reasoning", "content_index", "delta"),
    "response.reasoning.delta": TextEvent("reasoning", "reasoning", "content_index", "delta"),
    "response.reasoning_summary_text.delta": TextEvent("summary", "reasoning", "summary_index", "delta"),
    "response.reasoning_summary.delta": TextEvent("summary", "reasoning", "summary_index", "delta"),
    "response.audio.transcript.delta": TextEvent("audio", "audio_transcript", "content_index", "delta"),
}
#: By the kind of a text: the deltas that say it, where nothing else is known of them.
VOICES: Final = {event.kind: kind for kind, event in reversed(DELTAS.items())}
DONES: Final[dict[str, TextEvent]] = {
    "response.output_text.done": TextEvent("text", "content", "content_index", "text"),
    "response.refusal.done": TextEvent("refusal", "refusal", "content_index", "refusal"),
    "response.reasoning_text.done": TextEvent("reasoning", "reasoning", "content_index", "text"),
    "response.reasoning.done": TextEvent("reasoning", "reasoning", "content_index", "text"),
    "response.reasoning_summary_text.done": TextEvent("summary", "reasoning", "summary_index", "text"),
    "response.reasoning_summary.done": TextEvent("summary", "reasoning", "summary_index", "text"),
}
#: Parts of messages and of reasoning: the field that is the text.
PARTS: Final[dict[str, TextEvent]] = {
    "output_text": TextEvent("text", "content", "content", "text"),
    "text": TextEvent("text", "content", "content", "text"),
    "refusal": TextEvent("refusal", "refusal", "content", "refusal"),
    "reasoning_text": TextEvent("reasoning", "reasoning", "content", "text"),
    "output_audio": TextEvent("audio", "audio_transcript", "content", "transcript"),
    "summary_text": TextEvent("summary", "reasoning", "summary", "text"),
}

#: Calls: who runs them, and the fields of the item that are their arguments.
CALLS: Final[dict[str, tuple[ToolKind, tuple[str, ...]]]] = {
    "function_call": ("function", ("arguments",)),
    "custom_tool_call": ("custom", ("input",)),
    "mcp_call": ("mcp", ("arguments",)),
    "mcp_approval_request": ("mcp", ("arguments",)),
    "code_interpreter_call": ("code_interpreter", ("code",)),
    "program": ("code_interpreter", ("code",)),  # a program of the model's that calls the other tools
    "computer_call": ("computer", ("action", "actions")),
    "shell_call": ("shell", ("action",)),
    "local_shell_call": ("shell", ("action",)),
    "apply_patch_call": ("shell", ("operation",)),
    "web_search_call": ("server", ("action",)),
    "file_search_call": ("server", ("queries",)),
    "image_generation_call": ("server", ("revised_prompt", "prompt")),
    "tool_search_call": ("server", ("arguments",)),
}
#: Events that spell out the arguments of a call: the kind of call (for those that upstream never announced), the field.
CALL_EVENTS: Final[dict[str, tuple[ToolKind, str]]] = {
    "response.function_call_arguments": ("function", "arguments"),
    "response.custom_tool_call_input": ("custom", "input"),
    "response.mcp_call_arguments": ("mcp", "arguments"),
    "response.mcp_call.arguments": ("mcp", "arguments"),
    "response.code_interpreter_call_code": ("code_interpreter", "code"),
    "response.code_interpreter_call.code": ("code_interpreter", "code"),
}
#: Events that spell out a part of arguments which the item then says as an object.
PREVIEWS: Final[dict[str, tuple[ToolKind, str]]] = {
    "response.shell_call_command": ("shell", "command"),
    "response.apply_patch_call_operation_diff": ("shell", "diff"),
}
#: Events without a text of their own.
PROGRESS: Final = frozenset(
    {f"response.{call}.{step}" for call, steps in {
        "web_search_call": "in_progress searching completed failed",
        "file_search_call": "in_progress searching completed failed",
        "code_interpreter_call": "in_progress interpreting completed failed",
        "image_generation_call": "in_progress generating completed failed partial_image",
        "mcp_call": "in_progress completed failed",
        "mcp_list_tools": "in_progress completed failed",
        "shell_call_output_content": "delta done",
        "compaction": "compacting",
        "audio": "delta done",
        "audio.transcript": "done",
    }.items() for step in steps.split()} | {"keepalive", "response.keepalive"}
)  # fmt: skip
