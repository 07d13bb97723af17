"""A call's arguments and the request that policies see: the same thing in two spellings.

What is JSON is the request. What is secret (keys, headers), or makes the connection, goes around the policies and their
record untouched: none of it reaches the model. Inside of what policies see a stand-in shows where a secret is. What
litellm would merge into the request (`extra_body`) is merged before the policies look, so that nothing can hide there;
what stands in both places is refused, since some providers get the one and some the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel

from luthien_guard.client.credentials import Veil, is_private, is_secret, secrets_in
from luthien_guard.client.litellm_api import litellm
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.requests import same

__all__ = ["Arguments", "as_json"]

#: Never shown to policies, beside credentials: what no provider gets as text and what chooses none. Names and no
#: prefixes: litellm sends what it does not know on to the provider.
_AROUND: Final = re.compile(
    r"api_version|organization|client|(?:request_|stream_)?timeout|shared_session|max_retries|num_retries|"
    r"retry_(?:policy|strategy)|metadata|mock_(?:response|tool_calls|timeout|delay)|proxy_server_request|model_info|"
    r"litellm_(?:call_id|disabled_callbacks|logging_obj|metadata|params|request_debug|session_id|trace_id|"
    r"trusted_callback_vars)|caching|cache|ttl|logger_fn|verbose|(?:input|output)_cost_per_[a-z0-9_]+|no-log|ssl_verify|"
    r"aws_(?:batch_role_arn|bedrock_runtime_endpoint|external_id|profile_name|region_name|role_name|session_name|"
    r"session_tags|sts_endpoint)|azure_(?:ad_token_provider|authority_host|client_id|scope|tenant_id|username)|"
    r"vertex_(?:ai_)?(?:location|project)|watsonx_(?:project|region|region_name)"
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
    """The arguments of one call by name: `request` is what policies see, `body` the same as bytes. `sent`: names that
    go around the policies elsewhere, and are fields of this wire format. Raises TypeError for what no policy could
    judge."""

    def __init__(self, given: Mapping[str, Any], *, sent: Collection[str] = ()) -> None:
        self._given = given
        self._sent = sent
        self._extra: frozenset[str] = frozenset()
        self._veil = Veil()
        self._secrets: list[str] = []
        self.request: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                continue
            if self._goes_around(name):
                self._secrets += secrets_in(name, value)
            else:
                self._place(name, value)
        self._refuse_doubles()
        self.body = _text(self.request)

    @property
    def key(self) -> str | None:
        """The credential that stands for the caller: the provider's key first."""
        named = sorted((name != "api_key", name) for name in self._given if is_secret(name))
        return next((value for _, name in named if isinstance(value := self._given[name], str)), None)

    @property
    def streamed(self) -> bool:
        """Whether litellm gives a stream: what `extra_body` says of it is for the provider alone."""
        return bool(self._given.get("stream"))

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials among the arguments, at any depth; the longest first, since one may hold another."""
        return tuple(sorted(dict.fromkeys(self._secrets), key=len, reverse=True))

    def _goes_around(self, name: str) -> bool:
        return is_private(name) or (_AROUND.fullmatch(name) is not None and name not in self._sent)

    def _place(self, name: str, value: Any) -> None:
        try:
            plain = as_json(value, strict=name in _POLICED)
        except TypeError as error:
            raise TypeError(f"{name} holds {error}, which is not JSON: no policy could see it") from None
        except RecursionError:
            raise TypeError(f"{name} is nested too deep: no policy could see it") from None
        if plain is _OPAQUE and name in _FORMS:
            plain = _schema(value)
        if plain is _OPAQUE:
            return
        self._secrets += secrets_in(name, plain)
        shown = self._veil.hide(name, plain)
        if name == "extra_body" and isinstance(shown, dict):
            self._extra = frozenset(shown)
            self.request.update(shown)
        elif name not in self._extra:  # extra_body wins upstream, wherever it stands in the call
            self.request[name] = shown

    def _refuse_doubles(self) -> None:
        """Of a parameter that `extra_body` gives too: OpenAI's SDK takes that one, other providers get the argument."""
        extra = as_json(self._given["extra_body"]) if self._extra else {}
        for name in sorted(self._extra & self._given.keys()):
            own: Any = None if self._goes_around(name) else self._given[name]
            if own is not None and own != [] and not same(as_json(own, strict=False), extra[name]):
                raise TypeError(
                    f"{name} is given twice, as an argument and in extra_body: which of the two is sent depends on the "
                    "provider, so no policy could judge it; give it once"
                )

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
            if name not in self._extra and (name not in given or not same(value, self.request.get(name))):
                given[name] = self._veil.show(name, value)
        return given

    def _stays(self, name: str, wanted: Mapping[str, Any]) -> bool:
        return name in wanted or (name not in self.request and name != "extra_body")


#: Where a class may stand, of which litellm sends the schema.
_FORMS: Final = ("response_format", "text_format")
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


def _schema(form: Any) -> Any:
    """What litellm sends of a class that says how the answer shall look."""
    try:
        return litellm().utils.type_to_response_format_param(form)
    except TypeError:  # litellm refuses it too
        return _OPAQUE


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
