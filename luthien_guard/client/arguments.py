"""A call's arguments and the request that policies see: the same thing in two spellings.

What is JSON and says something to the model is the request. What is not (clients, callbacks, timeouts) and what is
secret (keys, headers) goes around the policies and their record untouched, and can carry no prompt.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from luthien_guard.wire.json_text import dumps

__all__ = ["Arguments", "as_json"]

#: Not prompt: credentials, connections, litellm's own switches.
_AROUND: Final = re.compile(
    r"api_key|api_base|base_url|api_version|organization|headers|extra_headers|default_headers|client|timeout|"
    r"request_timeout|metadata|litellm_.*|mock_.*|aws_.*|azure_.*|vertex_.*|.*_token|.*_secret|num_retries|"
    r"max_retries|fallbacks|context_window_fallback_dict|model_list|shared_session|caching|cache|logger_fn|"
    r"verbose|custom_llm_provider|input_cost_per_.*|output_cost_per_.*|deployment_id|api_type|proxy_.*|user_api_key.*"
)


class Arguments:
    """The arguments of one call, `around` the request and in it."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = _named(function, args, kwargs)
        self.around: dict[str, Any] = {}
        self.request: dict[str, Any] = {}
        for name, value in given.items():
            self._place(name, value)

    def _place(self, name: str, value: Any) -> None:
        if value is None or _AROUND.fullmatch(name):
            self.around[name] = value
            return
        try:
            self.request[name] = as_json(value)
        except TypeError:
            if name in ("messages", "input", "system", "instructions", "tools", "model"):
                raise TypeError(f"{name} holds something that is not JSON, so no policy could see it") from None
            self.around[name] = value

    @property
    def body(self) -> bytes:
        return dumps(self.request).encode()

    def changed(self, body: bytes) -> dict[str, Any]:
        """The arguments for the real call once policies have had their say over `body`."""
        return {**self.around, **json.loads(body)}


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if not args:
        return dict(kwargs)
    names = [name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD]
    if len(args) > len(names):
        raise TypeError(f"{len(args)} positional arguments, {len(names)} at most")
    given = dict(zip(names, args, strict=False))
    double = sorted(given.keys() & kwargs.keys())
    if double:
        raise TypeError(f"got multiple values for argument {double[0]!r}")
    return {**given, **kwargs}


def as_json(value: Any) -> Any:
    """The value as plain JSON. Raises TypeError for what is none."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key that is no string")
        return {key: as_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    raise TypeError(type(value).__name__)
