"""The request as arguments for litellm. A client writes the body, and litellm's functions take dozens of arguments that
decide where a request goes and with whose key (`api_base`, `api_key`, `fallbacks`, `mock_response`, ...): only what the
wire format itself knows may become one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.client.litellm_api import litellm
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.upstreams.fields import KNOWN
from luthien_guard.gateway.upstreams.headers import text_of
from luthien_guard.gateway.upstreams.own import credential_arguments, has_own_credential, key_in_headers
from luthien_guard.gateway.upstreams.types import Call, UpstreamError

__all__ = ["Arguments", "credential_of"]

#: Said by the entry in its own words.
_OURS: Final = ("model", "api_key", "api_base", "base_url")
#: Policies, and the guard that counts choices, go by what a request says of these.
_THE_REQUEST_S: Final = frozenset(
    """
    audio background conversation functions input instructions mcp_servers messages modalities n
    previous_response_id prompt stream system tools
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
#: No client's to say, whatever `allowed_openai_params` lists: where a request goes, with whose key, and what goes past the
#: policies.
_NO_CLIENT_S: Final = frozenset(
    """
    allowed_openai_params api_version client context_window_fallback_dict custom_llm_provider custom_prompt_dict
    deployment_id extra_body extra_headers extra_query fallbacks guardrails headers mock_response model_list
    organization proxy_server_request region_name ssl_verify
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
_NO_CLIENT_S_EITHER: Final = (
    "_",
    "anthropic_",
    "aws_",
    "azure_",
    "litellm_",
    "mock_",
    "oci_",
    "s3_",
    "vertex_",
    "watsonx_",
)
#: litellm asks nobody without an `api_key`. Stands for a header that holds none (`Basic ...`), and may outweigh it.
_IN_HEADERS: Final = "in-headers"
#: As litellm and the SDKs below it write the same names: another spelling would be a second header.
_SPELLED: Final = {"authorization": "Authorization", "x-api-key": "x-api-key", "api-key": "api-key"}
_ORGANIZATION: Final = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID")
_PROJECT: Final = ("OPENAI_PROJECT", "OPENAI_PROJECT_ID")


class Arguments:
    """What one upstream's settings make of each request."""

    def __init__(self, settings: UpstreamSettings, name: str) -> None:
        given = dict(settings.litellm or {})
        _check(given, f"upstream {name}: litellm")
        self._allowed = _allowed(given.get("allowed_openai_params"), f"upstream {name}: litellm")
        self._given = given
        self._settings = settings
        self._has_credential = has_own_credential(settings)

    def of(self, call: Call) -> tuple[dict[str, Any], list[str]]:
        """Arguments, and the fields of the request that may not become one. Raises UpstreamError."""
        import json

        body: dict[str, Any] = json.loads(call.body)
        known = KNOWN[call.wire_format] | self._allowed
        arguments = {key: value for key, value in body.items() if key in known and value is not None}
        unknown = [
            key for key, value in body.items() if key not in known and key != "model" and value is not None
        ]
        arguments.update(self._given, model=self._settings.model or call.model)
        arguments["stream"] = call.stream
        arguments["num_retries"] = arguments["max_retries"] = 0  # the gateway's own retries see every failure
        if call.wire_format == "anthropic.messages":
            del arguments["max_retries"], arguments["num_retries"]
        arguments["drop_params"] = True  # and said so: what was dropped is found by looking
        self._add_address(arguments, call)
        return arguments, unknown

    def has_credential_for(self, call: Call) -> bool:
        """False when there is nothing to ask with: neither the upstream's, nor the host's, nor the caller's own."""
        return (
            call.ambient
            or self._has_credential
            or bool(credential_arguments(self._settings))
            or (call.forwards_credential and credential_of(call) is not None)
        )

    def _may_find(self, call: Call) -> bool:
        return call.ambient and not self._has_credential

    def _add_address(self, arguments: dict[str, Any], call: Call) -> None:
        settings = self._settings
        if settings.base_url is not None:
            arguments["api_base"] = settings.base_url
        key = self._key(call)
        if key is not None and not (self._may_find(call) and _has_environment(arguments["model"])):
            arguments["api_key"] = key
        headers = {} if call.ambient or self._has_credential else _unsaid(key or "")
        headers.update({_SPELLED.get(name.lower(), name): value for name, value in settings.headers.items()})
        beta = dict(call.headers).get(b"anthropic-beta")
        if beta is not None and call.wire_format == "anthropic.messages":
            headers.setdefault("anthropic-beta", text_of(beta))
        if headers:
            arguments["extra_headers"] = headers

    def _key(self, call: Call) -> str | None:
        if self._has_credential:
            return self._settings.api_key or key_in_headers(self._settings.headers) or _IN_HEADERS
        return credential_of(call) if call.forwards_credential else None


def _check(given: Mapping[str, Any], place: str) -> None:
    """Raises ConfigError."""
    for key, value in given.items():
        if key in _OURS:
            raise ConfigError(f"{place}.{key}: use the upstream's own api_key, base_url and model")
        if key in _THE_REQUEST_S and (key, repr(value)) != ("n", "1"):
            raise ConfigError(
                f"{place}.{key}: policies go by what a request says of it: say it in the request, or let a policy "
                "change the request"
            )
        if key == "extra_body" and isinstance(value, Mapping):
            _check(value, f"{place}.{key}")


def _allowed(names: Any, place: str) -> frozenset[str]:
    """Further fields of a request that may become arguments. Raises ConfigError."""
    place = f"{place}.allowed_openai_params"
    if not isinstance(names, list | tuple | None) or not all(isinstance(each, str) for each in names or ()):
        raise ConfigError(f"{place}: a list of names is expected")
    for name in names or ():
        if name in _OURS or name in _NO_CLIENT_S or name.startswith(_NO_CLIENT_S_EITHER):
            raise ConfigError(f"{place}: {name} is for this file to say, and for no client")
    return frozenset(names or ()) - _THE_REQUEST_S


def _has_environment(model: str) -> bool:
    """Whether litellm finds a credential by itself: that one is meant, and not the word that a client puts in its place."""
    return bool(litellm().validate_environment(model).get("keys_in_environment"))


def _unsaid(key: str) -> dict[str, str]:
    """Through OpenAI's SDK litellm asks some seventy providers, and the SDK tells each the host's organization, project
    and `OPENAI_CUSTOM_HEADERS`. With a key of somebody else's they are said to be none."""
    said = os.environ.get("OPENAI_CUSTOM_HEADERS", "")
    names = [line.partition(":")[0].strip() for line in said.split("\n") if ":" in line]
    if any(os.environ.get(each) for each in _ORGANIZATION) or litellm().organization:
        names.append("OpenAI-Organization")
    if any(os.environ.get(each) for each in _PROJECT):
        names.append("OpenAI-Project")
    return {each: f"Bearer {key}" if each.lower() == "authorization" else "" for each in names}


def credential_of(call: Call) -> str | None:
    """The caller's own. Raises UpstreamError for one that no header can hold as it is."""
    headers = dict(call.headers)
    key = headers.get(b"x-api-key") or headers.get(b"authorization", b"").partition(b" ")[2]
    text = text_of(key).strip()
    if not text.isascii():  # httpx, below litellm, sends nothing else
        raise UpstreamError(400, "invalid_header", "the credential is not in ASCII", again=False)
    return text or None
