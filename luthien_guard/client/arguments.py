"""A call's arguments and the request that policies see: the same thing in two spellings.

What is JSON is the request. What is secret (keys, headers), or steers the connection and litellm itself, goes around
the policies and their record untouched: none of it reaches the model. Inside of what policies see a stand-in shows
where a secret is. What litellm would merge into the request (`extra_body`) is merged before the policies look, so that
nothing can hide there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from luthien_guard.client.credentials import Veil, is_private, is_secret, secrets_in
from luthien_guard.wire.json_text import dumps

__all__ = ["Arguments", "as_json"]

#: Never shown to policies, beside credentials: connections, litellm's own switches. No provider gets them as text
#: (`litellm_system_prompt` becomes one).
_AROUND: Final = re.compile(
    r"api_version|api_type|organization|client|timeout|request_timeout|stream_timeout|shared_session|max_retries|"
    r"num_retries|retry_.*|metadata|litellm_(?!system_prompt).*|mock_.*|aws_.*|azure_.*|vertex_.*|watsonx_.*|proxy_.*|"
    r"user_api_key.*|custom_llm_provider|model_list|deployment_id|model_info|context_window_fallback_dict|caching|"
    r"cache|ttl|logger_fn|verbose|drop_params|allowed_openai_params|additional_drop_params|"
    r"(?:input|output)_cost_per_.*|no-log|ssl_verify"
)
#: What carries prompt text or decides about it: must be JSON, or the call is refused.
_POLICED: Final = frozenset(
    {
        "extra_body",
        "fallbacks",
        "functions",
        "input",
        "instructions",
        "litellm_system_prompt",
        "messages",
        "model",
        "prediction",
        "prompt",
    }
    | {"prompt_variables", "system", "text", "tool_choice", "tools"}
)


class Arguments:
    """The arguments of one call by name: `request` is what policies see, `body` the same as bytes."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._extra: frozenset[str] = frozenset()
        self._veil = Veil()
        self._secrets: list[str] = []
        self.request: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                continue
            if _AROUND.fullmatch(name) or is_private(name):
                self._secrets += secrets_in(name, value)
            else:
                self._place(name, value)
        self.body = _text(self.request)

    @property
    def key(self) -> str | None:
        """The credential that stands for the caller: the provider's key first."""
        named = sorted((name != "api_key", name) for name in self._given if is_secret(name))
        return next((value for _, name in named if isinstance(value := self._given[name], str)), None)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials among the arguments, at any depth; the longest first, since one may hold another."""
        return tuple(sorted(dict.fromkeys(self._secrets), key=len, reverse=True))

    def _place(self, name: str, value: Any) -> None:
        try:
            plain = as_json(value, strict=name in _POLICED)
        except TypeError as error:
            raise TypeError(f"{name} holds {error}, which is not JSON: no policy could see it") from None
        except RecursionError:
            raise TypeError(f"{name} is nested too deep: no policy could see it") from None
        if plain is _OPAQUE:
            return
        self._secrets += secrets_in(name, plain)
        shown = self._veil.hide(name, plain)
        if name == "extra_body" and isinstance(shown, dict):
            self._extra = frozenset(shown)
            self.request.update(shown)
        elif name not in self._extra:  # extra_body wins upstream, wherever it stands in the call
            self.request[name] = shown

    def decided(self, body: bytes) -> dict[str, Any]:
        """The arguments for the real call after policies have turned the request into `body`. What they left alone
        stays the very object that the caller gave."""
        if body == self.body:
            return dict(self._given)
        wanted: dict[str, Any] = json.loads(body)
        given = {name: value for name, value in self._given.items() if self._stays(name, wanted)}
        extra = {name: self._veil.show(name, wanted[name]) for name in self._extra if name in wanted}
        if extra:
            given["extra_body"] = extra
        for name, value in wanted.items():
            if name not in self._extra and (name not in given or value != self.request.get(name)):
                given[name] = self._veil.show(name, value)
        return given

    def _stays(self, name: str, wanted: Mapping[str, Any]) -> bool:
        return name in wanted or (name not in self.request and name != "extra_body")


#: Stands for a value that is no JSON at all.
_OPAQUE: Final = object()


def as_json(value: Any, *, strict: bool = True) -> Any:
    """The value as plain JSON. Raises TypeError naming the type of what is none; not `strict`, such a part is shown
    by the name of its type, and a value that has nothing else is `_OPAQUE`."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True, serialize_as_any=True, warnings=False)
    if isinstance(value, Mapping):
        plain = {_key(key): _part(one, strict) for key, one in value.items()}
        if len(plain) != len(value):  # readers differ in which of the two counts
            raise TypeError("two keys of one spelling")
        return plain
    if isinstance(value, (list, tuple)):
        return [_part(one, strict) for one in value]
    if strict:
        raise TypeError(type(value).__name__)
    return _OPAQUE


def _part(value: Any, strict: bool) -> Any:
    plain = as_json(value, strict=strict)
    return f"<{type(value).__name__}>" if plain is _OPAQUE else plain


def _key(key: Any) -> str:
    """As `json.dumps` spells it."""
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    raise TypeError(f"a key of type {type(key).__name__}")


def _text(request: dict[str, Any]) -> bytes:
    """The JSON. What no JSON can say (NaN, a lone surrogate) is written so that the guard's reader refuses it: that is
    how every other unreadable request ends."""
    try:
        return dumps(request).encode()
    except ValueError:
        return json.dumps(request).encode()
