"""A guarded stream as litellm's own kind of stream: what others find on it who know those."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

from luthien_guard.client.dialects import CHAT, Dialect
from luthien_guard.client.stream import GuardedIterator

__all__ = ["stream_type"]

#: Attributes of litellm's streams that are about the call. All others may hold what the policies have kept back.
_OF_THE_CALL: Final = frozenset(
    {
        "_hidden_params",
        "_response_headers",
        "call_type",
        "custom_llm_provider",
        "litellm_metadata",
        "messages",
        "model",
        "start_time",
        "stream_options",
    }
)
#: The same of what its logging object notes.
_NOTED: Final = ("custom_llm_provider", "litellm_call_id", "litellm_params", "model")


@cache
def stream_type(dialect: Dialect) -> type[GuardedIterator]:
    """`GuardedIterator` as a subclass of litellm's stream class: others check for that."""
    shown = _OfChat if dialect.wire_format == CHAT.wire_format else _PassThrough
    made: Any = type(f"Guarded_{dialect.function}", (shown, dialect.stream_base()), {"__module__": __name__})
    return made  # type: ignore[no-any-return]


class _PassThrough(GuardedIterator):
    """Attributes that it does not have are those of litellm's stream: all where no policy looks at the answer, and else
    those that are about the call."""

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_inner")
        if inner is None or (self._exchange.covered and name not in _OF_THE_CALL):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(inner, name)

    def __iter__(self) -> Any:
        raise TypeError("a stream of an async call is read with `async for`")

    def __next__(self) -> Any:
        raise TypeError("a stream of an async call is read with `async for`")


class _OfChat(_PassThrough):
    """With what litellm's Router needs to make a stream of its own of this one."""

    make_call = None

    @property
    def completion_stream(self) -> Any:
        """What there is to read: None would say that upstream has not been asked yet."""
        return self

    @property
    def logging_obj(self) -> Any:
        """The call alone, where policies look at the answer: litellm's own object hears all of that."""
        heard = getattr(self._inner, "logging_obj", None)
        if not self._exchange.covered:
            return heard
        details: Mapping[str, Any] = getattr(heard, "model_call_details", {})
        return SimpleNamespace(
            model_call_details={name: details[name] for name in _NOTED if name in details},
            messages=getattr(heard, "messages", None),
            stream_options=getattr(heard, "stream_options", None),
        )
