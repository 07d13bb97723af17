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
#: Where tools and parts of a conversation stand.
_HOLDING: Final = frozenset({"tools", "functions", "mcp_servers", "messages", "input"})
#: How long an answer may be: the wire formats' names, and those of single providers, which litellm hands on and which then
#: stand over the common one.
_LIMITS: Final = (
    *("max_completion_tokens", "max_tokens", "max_output_tokens"),
    *("max_new_tokens", "max_tokens_to_sample", "maxTokens", "num_predict"),
)
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
    | {*_OTHERS, *_OTHERS["model_list"], *_LIMITS, *(key for keys in _KEPT.values() for key in keys)}
)
#: And what else nearly every request says: keys that need no second look.
_COMMON: Final = _READ | frozenset(
    """
    cache_control call_id description input_schema is_error parameters status stop stream_options strict
    temperature thinking tool_call_id tool_calls tool_choice tool_use_id
    """.split()  # noqa: SIM905 -- a name a line otherwise
)


def _folded(key: str) -> str:
    """As any parser might: the long s is an S, a Turkish i an I."""
    return key.replace("İ", "I").upper().casefold()


_FOLDED: Final = frozenset(map(_folded, _READ))


def askings(raw: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """The request, and what stands for parts of it where another model is asked or where it is merged in; with its place."""
    todo: list[tuple[Place, Mapping[str, Any]]] = [((), raw)]
    for place, asked in todo:  # grows on the way
        yield place, asked
        if _FURTHER.isdisjoint(asked):
            continue
        if isinstance(merged := asked.get("extra_body"), dict):
            todo.append(((*place, "extra_body"), merged))
        for key, inner in _OTHERS.items():
            for at, each in enumerate(_list(asked.get(key))):
                if isinstance(found := _inside(each, inner), dict):
                    todo.append(((*place, key, at, *inner), found))


def tools_of(raw: Mapping[str, Any]) -> Iterator[Any]:
    """Also of namespaces and servers, and those that come in the midst of a conversation."""
    lists = [raw.get(key) for key in ("tools", "functions", "mcp_servers")]
    for part in _parts(raw):
        lists += [part[key] for key in ("tools", "additional_tools") if key in part]
        if "tool" in part and (added := _inside(part, ("tool", "definition"))) is not None:
            lists.append([added])
    for found in lists:  # grows on the way
        for tool in _list(found):
            yield tool
            if isinstance(tool, dict):
                lists.append(tool.get("tools"))


def limits_of(raw: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """What it says of the length of an answer, in every spelling and for every model; null says nothing."""
    for place, asked in askings(raw):
        for key in _LIMITS:
            if (value := asked.get(key)) is not None:
                yield (*place, key), value


def references_of(wire_format: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that refer to what the provider keeps, each once."""
    found = [key for _, asked in askings(raw) for key in _kept(wire_format, asked)]
    return tuple(dict.fromkeys(found))


def misspelt(raw: Mapping[str, Any]) -> str | None:
    """A key that is read here in another case. Parsers of Go and .NET, among others, take it for that one, and of two the
    last; a policy would have seen nothing of it."""
    for _, asked in askings(raw):
        for part in _read_in(asked):
            # At once for nearly all: of long conversations there are thousands.
            if isinstance(part, dict) and not _COMMON.issuperset(part):
                for key in part:
                    if key not in _READ and _folded(key) in _FOLDED:
                        return str(key)
    return None


def _read_in(asked: Mapping[str, Any]) -> Sequence[Any]:
    """Whatever has keys that somebody reads."""
    if _HOLDING.isdisjoint(asked):
        return (asked,)
    tools = list(tools_of(asked))
    functions = [tool["function"] for tool in tools if isinstance(tool, dict) and "function" in tool]
    return (asked, *_parts(asked), *tools, *functions)


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
    found: list[Any] = []
    for items in (raw.get("messages"), raw.get("input")):
        for item in items if isinstance(items, list) else ():
            found.append(item)
            if isinstance(item, dict) and isinstance(blocks := item.get("content"), list):
                found += blocks
    return [part for part in found if isinstance(part, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _inside(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
