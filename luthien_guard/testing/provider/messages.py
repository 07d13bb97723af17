"""What anthropic.messages refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.testing.provider.complaint import Complaint, check_keys, check_names, mapping, sequence

__all__ = ["check"]

_KEYS: Final = frozenset(
    """
    anthropic_version betas cache_control container context_management inference_geo max_tokens
    mcp_servers messages metadata model output_config output_format safeguards service_tier speed
    stop_sequences stream system temperature thinking thread tool_choice tools top_k top_p
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
_BETA_ONLY: Final = ("mcp_servers", "context_management", "thread", "safeguards", "speed")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ROLES: Final = ("user", "assistant")


def check(request: Mapping[str, Any], headers: Mapping[str, str], *, counting: bool = False) -> None:
    """Raises Complaint for a request that the real API answers with a 4xx. `counting`: count_tokens, which needs no
    `max_tokens`."""
    if not headers.get("x-api-key") and not headers.get("authorization"):
        raise Complaint("x-api-key header is required", status=401)
    if not headers.get("anthropic-version"):
        raise Complaint("anthropic-version: header is required")
    beta = bool(headers.get("anthropic-beta"))
    check_keys(request, _KEYS, "{}: Extra inputs are not permitted")
    for key in _BETA_ONLY:
        if key in request and not beta:
            raise Complaint(f"{key}: Extra inputs are not permitted")
    _check_numbers(request, counting)
    _check_tools(request)
    _check_history(request, beta)


def _check_numbers(request: Mapping[str, Any], counting: bool) -> None:
    for key in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if key not in request:
            raise Complaint(f"{key}: Field required")
    most = request.get("max_tokens", 1)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise Complaint("max_tokens: Input should be greater than or equal to 1")
    temperature = request.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        raise Complaint("temperature: range: 0..1")
    thinking = request.get("thinking") or {}
    if thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens", 0)
        if budget < 1024:
            raise Complaint("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if not counting and budget >= most and "interleaved" not in str(request.get("betas")):
            raise Complaint("`max_tokens` must be greater than `thinking.budget_tokens`.")
        if temperature not in (None, 1, 1.0):
            raise Complaint("`temperature` may only be set to 1 when thinking is enabled.")


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = request.get("tools")
    if tools is not None:
        check_names(
            (mapping(tool, "tools").get("name") for tool in sequence(tools, "tools") if _named(tool)), _TOOL
        )
    choice = request.get("tool_choice")
    if choice is not None:
        if not tools:
            raise Complaint("tool_choice: may only be specified while providing tools")
        kind = mapping(choice, "tool_choice").get("type")
        if kind not in ("auto", "any", "tool", "none"):
            raise Complaint(
                f"tool_choice: Input tag {kind!r} found using 'type' does not match any of the expected tags"
            )


def _named(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") != "mcp_toolset"


def _check_history(request: Mapping[str, Any], beta: bool) -> None:
    messages = sequence(request["messages"], "messages")
    if not messages:
        raise Complaint("messages: at least one message is required")
    turns = _turns(messages, beta)
    if turns and turns[0][0] != "user" and "thread" not in request:
        raise Complaint('messages: first message must use the "user" role')
    continued = "thread" in request  # what came before is kept by the provider
    known: set[str] = set()
    for at, (role, blocks) in enumerate(turns):
        uses = [block for block in blocks if block.get("type") == "tool_use"]
        if role == "assistant":
            _check_uses(at, uses, known)
            after = turns[at + 1][1] if at + 1 < len(turns) else None
            _check_answered(at, uses, after)
        elif not continued or at > 0:
            _check_results(at, blocks, turns[at - 1] if at else None)
    _check_ending(turns)


def _turns(messages: Sequence[Any], beta: bool) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """(role, blocks) of each turn: the API joins messages of one role that follow each other."""
    turns: list[tuple[str, list[Mapping[str, Any]]]] = []
    for at, message in enumerate(messages):
        role = mapping(message, f"messages.{at}").get("role")
        if role == "system" and beta:
            continue
        if role not in _ROLES:
            raise Complaint(f"messages.{at}.role: Input should be 'user' or 'assistant'")
        check_keys(
            message,
            ("role", "content", "output_config", "id"),
            f"messages.{at}.{{}}: Extra inputs are not permitted",
        )
        blocks = _blocks(message.get("content"), at, last=at == len(messages) - 1, role=role)
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    return turns


def _blocks(content: Any, at: int, *, last: bool, role: str) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    blocks = [
        mapping(block, f"messages.{at}.content") for block in sequence(content, f"messages.{at}.content")
    ]
    if not blocks and not (last and role == "assistant"):
        raise Complaint(
            f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
        )
    for number, block in enumerate(blocks):
        if not isinstance(block.get("type"), str):
            raise Complaint(f"messages.{at}.content.{number}.type: Field required")
        if block["type"] == "text" and not block.get("text"):
            raise Complaint("messages: text content blocks must be non-empty")
        if block["type"] == "thinking" and not isinstance(block.get("signature"), str):
            raise Complaint(f"messages.{at}.content.{number}.thinking.signature: Field required")
    return blocks


def _check_uses(at: int, uses: Sequence[Mapping[str, Any]], known: set[str]) -> None:
    for use in uses:
        id = use.get("id")
        if not isinstance(id, str) or not _ID.fullmatch(id):
            raise Complaint(
                f"messages.{at}.content.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            )
        if not isinstance(use.get("input"), dict):
            raise Complaint(f"messages.{at}.content.tool_use.input: Input should be a valid dictionary")
        if not isinstance(use.get("name"), str) or not _TOOL.fullmatch(use["name"]):
            raise Complaint(
                f"messages.{at}.content.tool_use.name: String should match pattern '{_TOOL.pattern}'"
            )
        if id in known:
            raise Complaint("messages: `tool_use` ids must be unique")
        known.add(id)


def _check_answered(
    at: int, uses: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]] | None
) -> None:
    answered: set[Any] = set()
    for block in after or ():
        if block.get("type") != "tool_result":
            break  # results come first
        answered.add(block.get("tool_use_id"))
    missing = [use["id"] for use in uses if use["id"] not in answered]
    if missing:
        raise Complaint(
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        )


def _check_results(
    at: int, blocks: Sequence[Mapping[str, Any]], before: tuple[str, list[Mapping[str, Any]]] | None
) -> None:
    asked = {block.get("id") for block in before[1] if block.get("type") == "tool_use"} if before else set()
    seen: set[Any] = set()
    for block in blocks:
        if block.get("type") != "tool_result":
            continue
        id = block.get("tool_use_id")
        if id not in asked:
            raise Complaint(
                f"messages.{at}.content: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if id in seen:
            raise Complaint(
                f"messages.{at}.content: each tool_use must have a single result. Found multiple: {id}"
            )
        seen.add(id)


def _check_ending(turns: Sequence[tuple[str, list[Mapping[str, Any]]]]) -> None:
    if not turns or turns[-1][0] != "assistant" or not turns[-1][1]:
        return
    last = turns[-1][1][-1]
    if last.get("type") == "text" and last["text"] != last["text"].rstrip():
        raise Complaint("messages: final assistant content cannot end with trailing whitespace")
