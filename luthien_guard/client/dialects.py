"""litellm's three ways of asking: which function, which wire format, and how its objects become JSON and come back."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Protocol

from luthien_guard.client.litellm_api import function, litellm
from luthien_guard.client.managed_ids import managed_id, plain_id
from luthien_guard.client.parameters import unvalidated
from luthien_guard.client.revised import revised, with_notes
from luthien_guard.wire.json_text import dumps

__all__ = ["CHAT", "MESSAGES", "RESPONSES", "Chat", "Dialect"]


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

    def answer(self, data: dict[str, Any], original: Any, said: bytes) -> Any:
        """litellm's object for a whole answer, with what litellm noted on the original; None, which said nothing, if there
        is none."""
        ...

    def text(self, chunks: Sequence[Any]) -> str:
        """What the first choice of these chunks says."""
        ...

    def stream_base(self) -> type:
        """The class of litellm's streams, which others check for."""
        ...


class Chat:
    wire_format = "openai.chat"
    function = "acompletion"
    of_bytes = False

    @property
    def sent(self) -> Collection[str]:
        return ("metadata",) if litellm().enable_preview_features else ()

    async def call(self, given: dict[str, Any]) -> Any:
        return await function("acompletion")(**unvalidated(given))

    @staticmethod
    def json(value: Any) -> bytes:
        return _json(value)

    def chunk(self, data: dict[str, Any], like: Any, said: bytes) -> Any:
        made = revised(like, said, data)
        return with_notes(litellm().types.utils.ModelResponseStream(**data), like) if made is None else made

    def answer(self, data: dict[str, Any], original: Any, said: bytes) -> Any:
        made = revised(original, said, data)
        return with_notes(litellm().ModelResponse(**data), original) if made is None else made

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
        if (made := revised(like, said, data)) is not None:
            return made
        from litellm.llms.openai.responses.transformation import OpenAIResponsesAPIConfig
        from pydantic import ValidationError

        model: Any = OpenAIResponsesAPIConfig.get_event_model_class(event_type=data.get("type", ""))
        try:
            return model(**data)
        except ValidationError:  # litellm's models are narrower than what providers send; it does the same
            return model.model_construct(**data)

    def answer(self, data: dict[str, Any], original: Any, said: bytes) -> Any:
        from litellm.types.llms.openai import ResponsesAPIResponse

        _manage(data, original)
        made = revised(original, said, data)
        return with_notes(ResponsesAPIResponse(**data), original) if made is None else made

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

    def answer(self, data: dict[str, Any], original: Any, said: bytes) -> Any:
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
    try:
        raw: bytes = value.__pydantic_serializer__.to_json(
            value, exclude_none=True, serialize_as_any=True, warnings=False
        )
    except AttributeError:  # a dict
        return dumps(value).encode()
    except (TypeError, ValueError):
        # a lone surrogate: JSON can say it, UTF-8 cannot; the decoder refuses it. Or what `_build` mends
        _build(value)
        plain = value.model_dump(exclude_none=True, serialize_as_any=True, warnings=False)
        return json.dumps(plain, default=str).encode()
    return raw


def _build(value: Any) -> None:
    """pydantic before 2.14 writes no object of a class that nobody has used before, where the field declares another one."""
    from pydantic import BaseModel

    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, BaseModel):
            type(each).model_rebuild()
            todo += [each.__dict__, each.__pydantic_extra__]
        elif isinstance(each, dict):
            todo += each.values()
        elif isinstance(each, list):
            todo += each


CHAT: Dialect = Chat()
RESPONSES: Dialect = _Responses()
MESSAGES: Dialect = _Messages()
