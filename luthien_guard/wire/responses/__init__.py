"""openai.responses: the Responses API."""

from __future__ import annotations

import json

from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.format import Reader, Writer
from luthien_guard.wire.requests import read_request, write_request
from luthien_guard.wire.responses.body import BodyWriter
from luthien_guard.wire.responses.reader import ResponsesReader
from luthien_guard.wire.responses.writer import StreamWriter

__all__ = ["RESPONSES", "Responses"]

_TYPES = {
    "model": (str,),
    "input": (str, list),
    "instructions": (str,),
    "stream": (bool,),
    "tools": (list,),
    "max_output_tokens": (int,),
}


class Responses:
    """The wire format `openai.responses`."""

    name = "openai.responses"
    suffix = "/responses"
    keepalive = b": keepalive\n\n"
    calls_last = False

    def read_request(self, body: bytes) -> ChatRequest:
        return read_request(self.name, body, _TYPES)

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return write_request(body, original, request)

    def reader(self, *, stream: bool) -> Reader:
        return ResponsesReader()

    def writer(self, *, stream: bool, model: str, call_id: str) -> Writer:
        return StreamWriter(model, call_id) if stream else BodyWriter(model, call_id)

    def error(self, status: int, code: str, message: str) -> bytes:
        kind = "invalid_request_error" if status < 500 else "server_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()


RESPONSES = Responses()
