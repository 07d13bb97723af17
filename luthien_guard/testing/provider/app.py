"""The provider's ASGI application: routes, checks, answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import anyio

from luthien_guard.testing.provider import chat, messages, responses
from luthien_guard.testing.provider.complaint import Complaint
from luthien_guard.testing.provider.memory import Memory
from luthien_guard.testing.rendering import Part, render
from luthien_guard.testing.script import Disconnect, Leave, Script, Stall

__all__ = ["Asked", "FakeProvider", "Played"]

Message: TypeAlias = MutableMapping[str, Any]
_FORMATS: Final = {
    "/chat/completions": "openai.chat",
    "/messages": "anthropic.messages",
    "/messages/count_tokens": "anthropic.messages",
    "/responses": "openai.responses",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; `headers` in lower case, `raw` the very bytes."""

    wire_format: str
    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    raw: bytes
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """An answer as bytes: recorded, or made by hand."""

    parts: Sequence[Part]
    status: int = 200
    stream: bool = True
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Answer: TypeAlias = "Script | Played | Callable[[Asked], Script | Played]"


class FakeProvider:
    """`answers` are given in turn, the last one for ever; a callable makes one from the request.

    `requests` are the requests that were accepted, `complaints` what was refused and why, `left` how many clients went
    away in the middle of an answer, `open` how many answers are under way.
    """

    def __init__(self, *answers: Answer, models: Sequence[str] = ("scripted-model",)) -> None:
        self.answers: list[Answer] = list(answers) or [Script().text("Hello.")]
        self.models = tuple(models)
        self.requests: list[Asked] = []
        self.complaints: list[str] = []
        self.left = 0
        self.open = 0
        self._memory = Memory()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked = await _read(scope, receive)
        try:
            answer = self._answer(asked)
        except Complaint as complaint:
            self.complaints.append(str(complaint))
            answer = Played([_json(complaint.body(asked.wire_format))], complaint.status, stream=False)
        self.open += 1
        try:
            await self._play(answer, asked, receive, send)
        finally:
            self.open -= 1

    def _answer(self, asked: Asked) -> Played:
        path = asked.path.removeprefix("/v1")
        if asked.method != "POST" or path not in _FORMATS:
            return self._about(asked, path)
        if not asked.body:
            raise Complaint("We could not parse the JSON body of your request.")
        self._check(asked, counting=path.endswith("/count_tokens"))
        self.requests.append(asked)
        if path.endswith("/count_tokens"):
            return Played([_json({"input_tokens": len(asked.raw) // 4})], stream=False)
        return self._next(asked)

    def _check(self, asked: Asked, *, counting: bool) -> None:
        if asked.wire_format == "openai.chat":
            chat.check(asked.body, asked.headers)
        elif asked.wire_format == "anthropic.messages":
            messages.check(asked.body, asked.headers, counting=counting)
            self._memory.check_thinking(asked.body)
        else:
            open_calls = self._memory.open_calls(asked.body.get("previous_response_id"))
            responses.check(asked.body, asked.headers, open_calls)

    def _next(self, asked: Asked) -> Played:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        found = answer(asked) if callable(answer) else answer
        if isinstance(found, Script):
            rendering = render(found, asked.wire_format, stream=bool(asked.body.get("stream")))
            found = Played(rendering.parts, rendering.status, rendering.stream)
        whole = b"".join(part for part in found.parts if isinstance(part, bytes))
        self._memory.keep(asked.wire_format, asked.body, whole)
        return found

    def _about(self, asked: Asked, path: str) -> Played:
        """What is no model request: the list of models, answers that are kept."""
        if path == "/models" and asked.method == "GET":
            return Played([_json(_listing(self.models, asked.headers))], stream=False)
        parts = path.strip("/").split("/")
        kept = self._memory.responses.get(parts[1]) if len(parts) > 1 and parts[0] == "responses" else None
        if kept is None:
            raise Complaint(
                f"Unknown request URL: {asked.method} {asked.path}", status=404, code="unknown_url"
            )
        self.requests.append(asked)
        if asked.method == "DELETE":
            del self._memory.responses[parts[1]]
            return Played([_json({"id": parts[1], "object": "response", "deleted": True})], stream=False)
        if parts[2:] == ["input_items"]:
            return Played(
                [_json({"object": "list", "data": self._memory.inputs[parts[1]], "has_more": False})],
                stream=False,
            )
        if parts[2:] == ["cancel"]:
            raise Complaint("Cannot cancel a synchronous response.")
        return Played([_json(kept)], stream=False)

    async def _play(self, answer: Played, asked: Asked, receive: Any, send: Any) -> None:
        kind = "text/event-stream; charset=utf-8" if answer.stream else "application/json"
        given = {"content-type": kind, **_ids(asked.wire_format), **answer.headers}
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        done = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, receive, tasks.cancel_scope, done)
            for part in answer.parts:
                if isinstance(part, bytes):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                elif isinstance(part, Stall):
                    await anyio.sleep(part.seconds)
                elif isinstance(part, (Disconnect, Leave)):
                    raise ConnectionError("scripted: the connection is cut here")
            done.set()  # servers report a disconnect after every complete answer
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()

    async def _listen(self, receive: Any, scope: anyio.CancelScope, done: anyio.Event) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not done.is_set():
            self.left += 1
            scope.cancel()


async def _read(scope: Message, receive: Any) -> Asked:
    raw = b""
    while True:
        message = await receive()
        raw += message.get("body", b"")
        if not message.get("more_body", False):
            break
    path: str = scope["path"]
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    suffix = path.removeprefix("/v1")
    by_header = "anthropic.messages" if "anthropic-version" in headers else "openai.chat"
    wire_format = "openai.responses" if suffix.startswith("/responses") else _FORMATS.get(suffix, by_header)
    given = body if isinstance(body, dict) else {}
    return Asked(wire_format, scope["method"], path, scope.get("query_string", b""), headers, raw, given)


def _ids(wire_format: str) -> dict[str, str]:
    """The request id and the rate limits, named as the provider does."""
    if wire_format == "anthropic.messages":
        return {"request-id": "req_fake0001", "anthropic-ratelimit-requests-remaining": "99"}
    return {"x-request-id": "req_fake0001", "x-ratelimit-remaining-requests": "99"}


def _listing(models: Sequence[str], headers: Mapping[str, str]) -> dict[str, Any]:
    if "anthropic-version" in headers:
        data = [
            {"type": "model", "id": each, "display_name": each, "created_at": "2026-01-01T00:00:00Z"}
            for each in models
        ]
        return {"data": data, "has_more": False, "first_id": models[0], "last_id": models[-1]}
    return {
        "object": "list",
        "data": [{"id": each, "object": "model", "created": 1, "owned_by": "fake"} for each in models],
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
