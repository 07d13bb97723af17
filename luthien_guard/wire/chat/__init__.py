"""openai.chat: Chat Completions, as OpenAI and everybody who is compatible with it sends them."""

from __future__ import annotations

import json

from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.chat.body import BodyReader, BodyWriter
from luthien_guard.wire.chat.reader import StreamReader
from luthien_guard.wire.chat.writer import StreamWriter
from luthien_guard.wire.format import Reader, Writer
from luthien_guard.wire.requests import read_request, write_request

__all__ = ["CHAT", "Chat"]

_TYPES = {
    "model": (str,),
    "messages": (list,),
    "stream": (bool,),
    "tools": (list,),
    "functions": (list,),
    "max_tokens": (int,),
    "max_completion_tokens": (int,),
    "n": (int,),
}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


class Chat:
    """The wire format `openai.chat`."""

    name = "openai.chat"
    suffix = "/chat/completions"
    keepalive = b": keepalive\n\n"
    calls_last = False
    no_arguments = ""
    refusal: tuple[int, str] = (400, "content_policy_violation")
    refuses_in_stream = False

    def read_request(self, body: bytes) -> ChatRequest:
        return read_request(self.name, body, _TYPES)

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return write_request(body, original, request)

    def reader(self, *, stream: bool, choices: int | None = None) -> Reader:
        return StreamReader(choices) if stream else BodyReader()

    def writer(
        self, *, stream: bool, model: str, call_id: str, choices: int | None = None, usage: bool = False
    ) -> Writer:
        return StreamWriter(model, call_id, choices, usage) if stream else BodyWriter(model, call_id)

    def error(self, status: int, code: str, message: str) -> bytes:
        kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"message": message, "type": kind, "param": None, "code": code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()


CHAT = Chat()
