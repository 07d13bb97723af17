"""Where the JSON of a request says more than at its top: further models, tools, limits, and what the provider keeps.

Providers let a request name others that stand in (`fallbacks`), offer tools in the midst of a conversation, and refer to
what they keep; litellm and its proxy take all of that again inside of each other. A policy that read the top alone would
be passed by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

__all__ = ["Place", "askings", "limits_of", "misspelt", "references_of", "tools_of"]

Place: TypeAlias = tuple[str | int, ...]

#: Where a request names further models; what stands in each of them is said to that model instead.
_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {"fallbacks": (), "model_list": ("litellm_params",)}
_FURTHER: Final = frozenset({"extra_body", *_OTHERS})
_CONVERSATION: Final = ("messages", "input")
#: Where tools stand: at the top, and in parts of a conversation.
_TOOLS: Final = ("tools", "functions", "mcp_servers")
_HOLDS_TOOLS: Final = frozenset(_TOOLS)
_TOOLS_IN_PARTS: Final = frozenset({"tools", "additional_tools", "tool"})
#: How long an answer may be: the wire formats' names, and those of single providers, which litellm hands on and which then
#: stand over the common one.
_LIMITS: Final = (
    *("max_completion_tokens", "max_tokens", "max_output_tokens"),
    *("max_new_tokens", "max_tokens_to_sample", "maxTokens", "num_predict"),
    *("max_length", "max_gen_len", "maxTokenCount", "maxOutputTokens", "maxCompletionTokens"),
)
#: Objects in which single providers take them: what an `extra_body` says there counts.
_SETTINGS: Final = ("generationConfig", "generation_config", "inferenceConfig", "options", "parameters")
#: Keys of a request that stand for what the provider keeps and the request does not hold.
_KEPT: Final[Mapping[str, tuple[str, ...]]] = {
    # litellm's: an answer of the Responses API to go on from, and a prompt that it looks up
    "openai.chat": ("previous_response_id", "prompt", "prompt_id"),
    "anthropic.messages": ("thread",),
    "openai.responses": ("previous_response_id", "conversation", "prompt", "prompt_id"),
}
#: Items that providers find by their id, and where they would say it themselves.
_FOUND_BY_ID: Final = {"message": "content", "image_generation_call": "result"}
#: What is read here or by the guard, at the top, in a message, in a part of one or in a tool.
_READ: Final = frozenset(
    {"model", "stream", "background", "n", "user", "metadata", "extra_body", "messages", "input", "system"}
    | {"instructions", "compaction", "context_management", "role", "content", "type", "text", "audio", "id"}
    | {"tools", "functions", "mcp_servers", "additional_tools", "tool", "definition", "function", "name"}
    | {
        *_OTHERS,
        *_OTHERS["model_list"],
        *_LIMITS,
        *_SETTINGS,
        *(key for keys in _KEPT.values() for key in keys),
    }
)
#: And what else nearly every request says: keys that need no second look.
_COMMON: Final = _READ | frozenset(
    """
    cache_control call_id description input_schema is_error parameters status stop stream_options strict
    temperature thinking tool_call_id tool_calls tool_choice tool_use_id
    """.split()  # noqa: SIM905 -- a name a line otherwise
)

#: ... and that lead nowhere else.
_PLAIN: Final = _COMMON - _FURTHER - _HOLDS_TOOLS - _TOOLS_IN_PARTS


def _folded(key: str) -> str:
    """As any parser might: the long s is an S, a Turkish i an I."""
    return key.replace("İ", "I").upper().casefold()


_FOLDED: Final = frozenset(map(_folded, _READ))


def askings(raw: Mapping[str, Any]) -> Sequence[tuple[Place, Mapping[str, Any]]]:
    """The request, and what stands for parts of it where another model is asked or where it is merged in; with its place."""
    found: list[tuple[Place, Mapping[str, Any]]] = [((), raw)]
    for place, asked in found:  # grows on the way
        if _FURTHER.isdisjoint(asked):
            continue
        if isinstance(merged := asked.get("extra_body"), dict):
            found.append(((*place, "extra_body"), merged))
        for key, inner in _OTHERS.items():
            for at, each in enumerate(_list(asked.get(key))):
                if isinstance(other := _inside(each, inner), dict):
                    found.append(((*place, key, at, *inner), other))
    return found


def tools_of(raw: Mapping[str, Any]) -> list[Any]:
    """Also of namespaces and servers, and those that come in the midst of a conversation."""
    return _tools(raw, _parts(raw))


def _tools(raw: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[Any]:
    lists = [] if _HOLDS_TOOLS.isdisjoint(raw) else [raw.get(key) for key in _TOOLS]
    for part in parts:
        if not _TOOLS_IN_PARTS.isdisjoint(part):
            lists += [part.get("tools"), part.get("additional_tools")]
            if (added := _inside(part, ("tool", "definition"))) is not None:
                lists.append([added])
    tools: list[Any] = []
    for found in lists:  # grows on the way
        tools += _list(found)
        lists += [tool["tools"] for tool in _list(found) if isinstance(tool, dict) and "tools" in tool]
    return tools


def limits_of(raw: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """What it says of the length of an answer, in every spelling and for every model; null says nothing."""
    for place, asked in askings(raw):
        for around in ((), *((key,) for key in _SETTINGS if key in asked)):
            settings = _inside(asked, around)
            for key in _LIMITS if isinstance(settings, Mapping) else ():
                if (value := settings.get(key)) is not None:
                    yield (*place, *around, key), value


def references_of(wire_format: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that refer to what the provider keeps, each once."""
    found = [key for _, asked in askings(raw) for key in _kept(wire_format, asked)]
    return tuple(dict.fromkeys(found))


def misspelt(raw: Mapping[str, Any]) -> str | None:
    """A key that is read here in another case. Parsers of Go and .NET, among others, take it for that one, and of two the
    last; a policy would have seen nothing of it."""
    # At once for nearly all: of long conversations there are thousands of parts.
    if _PLAIN.issuperset(raw) and all(map(_PLAIN.issuperset, _parts(raw))):
        return None
    for _, asked in askings(raw):
        for part in _read_in(asked):
            if not _COMMON.issuperset(part):
                for key in part:
                    if key not in _READ and _folded(key) in _FOLDED:
                        return str(key)
    return None


def _read_in(asked: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Whatever has keys that somebody reads."""
    parts = _parts(asked)
    if not (found := _tools(asked, parts)):
        return (asked, *parts)
    tools = [tool for tool in found if isinstance(tool, dict)]
    functions = [function for tool in tools if isinstance(function := tool.get("function"), dict)]
    return (asked, *parts, *tools, *functions)


def _kept(wire_format: str, asked: Mapping[str, Any]) -> Iterator[str]:
    for key in _KEPT[wire_format]:
        if _is_kept(asked.get(key)):
            yield key
    if wire_format == "openai.responses" and any(map(_names_item, _list(asked.get("input")))):
        yield "input"
    if wire_format == "openai.chat" and any(map(_names_audio, _list(asked.get("messages")))):
        yield "messages"


def _is_kept(value: Any) -> bool:
    """A thread that only begins is all in the request."""
    return value is not None and value != {"type": "create"}


def _names_item(item: Any) -> bool:
    """An item of `input` without a type is a message if it has a role, and a reference otherwise."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    if kind is None:
        kind = "item_reference" if item.get("role") is None else "message"
    if kind == "item_reference":
        return True
    said = _FOUND_BY_ID.get(kind) if isinstance(kind, str) else None
    return said is not None and bool(item.get("id")) and not item.get(said)


def _names_audio(message: Any) -> bool:
    """What the model said aloud is sent back as an id, whatever transcript stands beside it."""
    return isinstance(message, dict) and message.get("audio") is not None


def _parts(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The items of a conversation, and the blocks in them."""
    found: list[Mapping[str, Any]] = []
    for key in _CONVERSATION:
        if key not in raw or not isinstance(items := raw[key], list):
            continue
        for item in items:
            if isinstance(item, dict):
                found.append(item)
                if isinstance(blocks := item.get("content"), list):
                    found += [block for block in blocks if isinstance(block, dict)]
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _inside(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
