"""litellm's three ways of asking: which function, which wire format, and how its objects become JSON and come back."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Protocol

import jiter

from luthien_guard.client.litellm_api import function, litellm
from luthien_guard.client.managed_ids import managed_id, plain_id
from luthien_guard.client.parameters import unvalidated
from luthien_guard.wire.json_text import dumps

__all__ = ["CHAT", "MESSAGES", "RESPONSES", "Dialect"]


class Dialect(Hashable, Protocol):
    """One of litellm's functions."""

    wire_format: str
    function: str  # its name in litellm
    of_bytes: bool  # its streams are bytes of SSE, not objects

    @property
    def sent(self) -> Collection[str]:
        """What the provider gets of arguments that are litellm's own elsewhere."""
        ...

    async def call(self, given: dict[str, Any]) -> Any:
        """Ask litellm."""
        ...

    def json(self, value: Any) -> bytes:
        """The JSON of a chunk object or of a whole answer: every field that is set, except nulls."""
        ...

    def chunk(self, data: dict[str, Any], like: Any, said: bytes) -> Any:
        """litellm's object for the JSON of a chunk; `like` is the last one that came from upstream and `said` its JSON, None
        and nothing before the first."""
        ...

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        """litellm's object for a whole answer, with what litellm noted on the original (None if there is none)."""
        ...

    def text(self, chunks: Sequence[Any]) -> str:
        """What the first choice of these chunks says."""
        ...

    def stream_base(self) -> type:
        """The class of litellm's streams, which others check for."""
        ...


class _Chat:
    wire_format = "openai.chat"
    function = "acompletion"
    of_bytes = False

    @property
    def sent(self) -> Collection[str]:
        return ("metadata",) if litellm().enable_preview_features else ()

    async def call(self, given: dict[str, Any]) -> Any:
        return await function("acompletion")(**unvalidated(given))

    def json(self, value: Any) -> bytes:
        return _json(value)

    def chunk(self, data: dict[str, Any], like: Any, said: bytes) -> Any:
        made = _retexted(like, said, data)
        return _noted(litellm().types.utils.ModelResponseStream(**data) if made is None else made, like)

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        return _noted(litellm().ModelResponse(**data), original)

    def text(self, chunks: Sequence[Any]) -> str:
        first = (choice.delta for chunk in chunks for choice in chunk.choices if choice.index == 0)
        return "".join(delta.content or "" for delta in first)

    def stream_base(self) -> type:
        base: type = litellm().CustomStreamWrapper
        return base


class _Responses:
    wire_format = "openai.responses"
    function = "aresponses"
    of_bytes = False
    sent = ("metadata",)

    async def call(self, given: dict[str, Any]) -> Any:
        return await function("aresponses")(**given)

    def json(self, value: Any) -> bytes:
        raw, long = _json(value), managed_id(value)
        return raw if long is None else raw.replace(dumps(long).encode(), dumps(plain_id(long)).encode())

    def chunk(self, data: dict[str, Any], like: Any, said: bytes) -> Any:
        _manage(data, like)
        from litellm.llms.openai.responses.transformation import OpenAIResponsesAPIConfig
        from pydantic import ValidationError

        model: Any = OpenAIResponsesAPIConfig.get_event_model_class(event_type=data.get("type", ""))
        try:
            return model(**data)
        except ValidationError:  # litellm's models are narrower than what providers send; it does the same
            return model.model_construct(**data)

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        from litellm.types.llms.openai import ResponsesAPIResponse

        _manage(data, original)
        return _noted(ResponsesAPIResponse(**data), original)

    def text(self, chunks: Sequence[Any]) -> str:
        deltas = (each for each in chunks if getattr(each, "type", "") == "response.output_text.delta")
        return "".join(each.delta for each in deltas)

    def stream_base(self) -> type:
        from litellm.responses.streaming_iterator import BaseResponsesAPIStreamingIterator

        return BaseResponsesAPIStreamingIterator


class _Messages:
    wire_format = "anthropic.messages"
    function = "anthropic_messages"
    of_bytes = True
    sent = ("metadata",)

    async def call(self, given: dict[str, Any]) -> Any:
        return await function("anthropic_messages")(**given)

    def json(self, value: Any) -> bytes:
        return dumps(value).encode() if isinstance(value, dict) else _json(value)

    def chunk(self, data: dict[str, Any], like: Any, said: bytes) -> Any:
        return data

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        return data

    def text(self, chunks: Sequence[Any]) -> str:
        return ""  # nobody goes on from bytes

    def stream_base(self) -> type:
        return object


def _manage(data: dict[str, Any], original: Any) -> None:
    """Give the answer back the id that litellm had made."""
    long, response = managed_id(original), data.get("response", data)
    if long is not None and response.get("id") == plain_id(long):
        response["id"] = long


def _json(value: Any) -> bytes:
    """`serialize_as_any`: by what the objects are, not by what the fields' types declare. Otherwise pydantic leaves
    out what a subclass adds."""
    if isinstance(value, Mapping):
        return dumps(value).encode()
    try:
        raw: bytes = value.__pydantic_serializer__.to_json(
            value, exclude_none=True, serialize_as_any=True, warnings=False
        )
    except ValueError:  # a lone surrogate: JSON can say it, UTF-8 cannot; the decoder refuses it
        plain = value.model_dump(exclude_none=True, serialize_as_any=True, warnings=False)
        return json.dumps(plain, default=str).encode()
    return raw


def _retexted(like: Any, said: bytes, data: dict[str, Any]) -> Any:
    """A copy of litellm's chunk, whose JSON is `said`, where `data` says the same with another text, as most changed chunks
    do: making one from its JSON takes litellm's models 150 us. None where it says anything else."""
    if not hasattr(like, "model_copy"):
        return None
    try:
        old = jiter.from_json(said)
    except ValueError:  # a lone surrogate
        return None
    text, was = _text_in(data), _text_in(old)
    if text is None or was is None:
        return None
    was["content"] = text["content"]
    if old != data:
        return None
    choice = like.choices[0]
    delta = choice.delta.model_copy(update={"content": text["content"]})
    return like.model_copy(update={"choices": [choice.model_copy(update={"delta": delta})]})


def _text_in(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """The delta of a chunk of one choice, where it has text."""
    choices: list[Any] = chunk.get("choices") or []
    delta = choices[0].get("delta") if len(choices) == 1 else None
    return delta if isinstance(delta, dict) and isinstance(delta.get("content"), str) else None


def _noted(made: Any, original: Any) -> Any:
    """Costs, headers and ids that litellm keeps beside the JSON."""
    if original is not None:
        notes = _note(original, "_hidden_params") or {}
        # the one note that quotes the answer
        made._hidden_params = {name: value for name, value in notes.items() if name != "original_response"}
        for name in ("_response_headers", "_response_ms"):
            if (value := _note(original, name)) is not None:
                setattr(made, name, value)
    return made


def _note(of: Any, name: str) -> Any:
    """Looked for where pydantic keeps it: to ask its objects for what they do not have takes longer than all else here. Some
    providers of callers answer with a dict."""
    own: Mapping[str, Any] = getattr(of, "__dict__", {})
    if name in own:
        return own[name]
    return (getattr(of, "__pydantic_private__", None) or {}).get(name)


CHAT: Dialect = _Chat()
RESPONSES: Dialect = _Responses()
MESSAGES: Dialect = _Messages()
