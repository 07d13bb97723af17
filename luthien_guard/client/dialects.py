"""litellm's three ways of asking: which function, which wire format, and how its objects become JSON and come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from luthien_guard.client.litellm_api import litellm

__all__ = ["CHAT", "MESSAGES", "RESPONSES", "Dialect"]


class Dialect(Protocol):
    """One of litellm's functions."""

    wire_format: str
    function: str  # its name in litellm

    def mapping(self, value: Any) -> Mapping[str, Any]:
        """The JSON of a chunk or of a whole answer."""
        ...

    def chunk(self, data: dict[str, Any]) -> Any:
        """litellm's object for the JSON of a chunk."""
        ...

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        """litellm's object for a whole answer, with what litellm noted on the original."""
        ...


class _Chat:
    wire_format = "openai.chat"
    function = "acompletion"

    def mapping(self, value: Any) -> Mapping[str, Any]:
        data: dict[str, Any] = value.model_dump(exclude_none=True)
        return data

    def chunk(self, data: dict[str, Any]) -> Any:
        return litellm().types.utils.ModelResponseStream(**data)

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        return _with_notes(litellm().ModelResponse(**data), original)


class _Responses:
    wire_format = "openai.responses"
    function = "aresponses"

    def mapping(self, value: Any) -> Mapping[str, Any]:
        data: dict[str, Any] = value.model_dump(mode="json", exclude_none=True)
        return data

    def chunk(self, data: dict[str, Any]) -> Any:
        from litellm.llms.openai.responses.transformation import OpenAIResponsesAPIConfig

        return OpenAIResponsesAPIConfig.get_event_model_class(event_type=data.get("type", ""))(**data)

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        from litellm.types.llms.openai import ResponsesAPIResponse

        return _with_notes(ResponsesAPIResponse(**data), original)


class _Messages:
    wire_format = "anthropic.messages"
    function = "anthropic_messages"

    def mapping(self, value: Any) -> Mapping[str, Any]:
        return value if isinstance(value, Mapping) else dict(value)

    def chunk(self, data: dict[str, Any]) -> Any:
        return data

    def answer(self, data: dict[str, Any], original: Any) -> Any:
        return data


def _with_notes(made: Any, original: Any) -> Any:
    """Costs, headers and ids that litellm keeps beside the JSON."""
    notes = getattr(original, "_hidden_params", None)
    if notes is not None:
        made._hidden_params = notes
    return made


CHAT: Dialect = _Chat()
RESPONSES: Dialect = _Responses()
MESSAGES: Dialect = _Messages()
