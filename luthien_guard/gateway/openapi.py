"""`GET /openapi.json`: the gateway's own description of itself.

It says what the gateway reads and promises. What a provider takes beyond that (law 1: unknown fields go through) is the
provider's to describe, so every schema is open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from luthien_guard.asgi.types import Receive, Scope, Send

__all__ = ["DESCRIPTION", "OpenAPI"]

_Schema: TypeAlias = Mapping[str, Any]

_STRING: Final[_Schema] = {"type": "string"}
_OBJECT: Final[_Schema] = {"type": "object"}
_MESSAGES: Final[_Schema] = {
    "type": "array",
    "minItems": 1,
    "items": {"$ref": "#/components/schemas/Message"},
}
_STREAM: Final[_Schema] = {"type": "boolean", "default": False}
_ID: Final[_Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:=-]{0,511}$"},
}
#: A version that the Messages API knows; any client sends one.
_VERSION: Final[_Schema] = {
    "name": "anthropic-version",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
}


class OpenAPI:
    """Serves the description."""

    def __init__(self) -> None:
        self._body = json.dumps(DESCRIPTION).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self._body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def _body(name: str) -> _Schema:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _json(description: str, schema: _Schema = _OBJECT) -> _Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _answers(*, streams: bool = False) -> _Schema:
    """Of a path of a wire format: what the upstream says as it said it, and errors in the format's own shape."""
    content: dict[str, Any] = {"application/json": {"schema": _OBJECT}}
    if streams:
        content["text/event-stream"] = {}
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    headers = {
        "x-luthien-call-id": {"schema": _STRING, "description": "The exchange, in the records."},
        "x-luthien-dropped": {"schema": _STRING, "description": "Fields that a conversion could not keep."},
    }
    return {
        "200": {"description": "The answer, under policy.", "headers": headers, "content": content},
        "4XX": {
            "description": "Refused, by the gateway or the upstream.",
            "content": {"application/json": error},
        },
        "5XX": {"description": "The upstream or a policy failed.", "content": {"application/json": error}},
    }


def _post(summary: str, request: str | None, *, streams: bool = False, parameters: Any = ()) -> _Schema:
    operation: dict[str, Any] = {"summary": summary, "responses": _answers(streams=streams)}
    if request is not None:
        operation["requestBody"] = _body(request)
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


def _get(summary: str, parameters: Any = ()) -> _Schema:
    return _post(summary, None, parameters=parameters)


def _health(summary: str, *, waits: bool = False) -> _Schema:
    report = {"$ref": "#/components/schemas/Health"}
    responses = {"200": _json("The process answers.", report)}
    if waits:
        responses["503"] = _json("It cannot serve yet.", report)
    return {"get": {"summary": summary, "security": [], "responses": responses}}


_PATHS: Final[_Schema] = {
    "/v1/chat/completions": {"post": _post("OpenAI Chat Completions", "ChatCompletion", streams=True)},
    "/v1/messages": {"post": _post("Anthropic Messages", "Messages", streams=True, parameters=[_VERSION])},
    "/v1/messages/count_tokens": {"post": _post("Count tokens", "CountTokens", parameters=[_VERSION])},
    "/v1/responses": {"post": _post("OpenAI Responses", "Responses", streams=True)},
    "/v1/responses/input_tokens": {"post": _post("Count tokens", "InputTokens")},
    "/v1/responses/{id}": {
        "get": _get("An answer that the upstream keeps", [_ID]),
        "delete": _get("Delete it", [_ID]),
    },
    "/v1/responses/{id}/cancel": {"post": _post("Cancel it", None, parameters=[_ID])},
    "/v1/responses/{id}/input_items": {"get": _get("What it was asked", [_ID])},
    "/v1/models": {"get": _get("What the upstreams have")},
    "/health": _health("Live, ready, or degraded with the reasons"),
    "/health/live": _health("The process answers"),
    "/health/ready": _health("It can serve", waits=True),
    "/metrics": {
        "get": {
            "summary": "For Prometheus",
            "responses": {
                "200": {"description": "The text format.", "content": {"text/plain": {"schema": _STRING}}},
                "401": _json("Not without a key, where there are keys."),
                "403": _json("Not with this key."),
                "404": {"description": "Not installed.", "content": {"text/plain": {"schema": _STRING}}},
            },
        }
    },
}


def _request(required: list[str], properties: _Schema) -> _Schema:
    return {"type": "object", "required": required, "properties": {"model": _STRING, **properties}}


_INPUT: Final[_Schema] = {"oneOf": [_STRING, {"type": "array", "items": _OBJECT}]}
_TOKENS: Final[_Schema] = {"type": "integer", "minimum": 1}
_SCHEMAS: Final[_Schema] = {
    "Message": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": _STRING, "content": {}},
    },
    "ChatCompletion": _request(["model", "messages"], {"messages": _MESSAGES, "stream": _STREAM}),
    "Messages": _request(
        ["model", "max_tokens", "messages"], {"max_tokens": _TOKENS, "messages": _MESSAGES, "stream": _STREAM}
    ),
    "CountTokens": _request(["model", "messages"], {"messages": _MESSAGES}),
    "Responses": _request(["model"], {"input": _INPUT, "stream": _STREAM}),
    "InputTokens": _request(["model"], {"input": _INPUT}),
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _OBJECT}},
    "Health": {
        "type": "object",
        "required": ["status", "live", "ready", "policies", "reasons"],
        "properties": {
            "status": {"enum": ["ok", "degraded", "starting"]},
            "live": {"type": "boolean"},
            "ready": {"type": "boolean"},
            "policies": {"type": "string", "description": "The version of the policies."},
            "reasons": {"type": "array", "items": _STRING},
        },
    },
}

#: OpenAPI 3.1.
DESCRIPTION: Final[_Schema] = {
    "openapi": "3.1.0",
    "info": {"title": "luthien-guard", "version": "1", "description": "LLM traffic under policy."},
    "paths": _PATHS,
    "security": [{"bearer": []}, {"api_key": []}],
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        },
    },
}
