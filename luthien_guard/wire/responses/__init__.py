"""openai.responses: the Responses API, as OpenAI, Azure, xAI, OpenRouter and others send it."""

from __future__ import annotations

from typing import Final

from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.format import Reader, WireFormat, Writer
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.requests import read_request, write_request
from luthien_guard.wire.responses.body import BodyWriter
from luthien_guard.wire.responses.made import error_body
from luthien_guard.wire.responses.reader import ResponsesReader
from luthien_guard.wire.responses.writer import StreamWriter

__all__ = ["RESPONSES", "Responses"]

_TYPES = {
    "model": (str,),
    "input": (str, list),
    "instructions": (str,),
    "stream": (bool,),
    "background": (bool,),
    "tools": (list,),
    "max_output_tokens": (int,),
    "previous_response_id": (str,),
    "conversation": (str, dict),
}


class Responses:
    """The wire format `openai.responses`."""

    name = "openai.responses"
    suffix = "/responses"
    keepalive = b": keepalive\n\n"
    calls_last = False
    no_arguments = ""
    refusal: tuple[int, str] = (400, "invalid_prompt")
    refuses_in_stream = True

    def read_request(self, body: bytes) -> ChatRequest:
        return read_request(self.name, body, _TYPES)

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return write_request(body, original, request)

    def reader(self, *, stream: bool, choices: int | None = None) -> Reader:
        return ResponsesReader()

    def writer(
        self, *, stream: bool, model: str, call_id: str, choices: int | None = None, usage: bool = False
    ) -> Writer:
        return StreamWriter(model, call_id) if stream else BodyWriter(model, call_id)

    def error(self, status: int, code: str, message: str) -> bytes:
        return dumps(error_body(status, code, message)).encode()


RESPONSES: Final[WireFormat] = Responses()
