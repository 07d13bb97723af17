"""anthropic.messages: the Messages API, streamed and as a body."""

from __future__ import annotations

from typing import Final

from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.format import Reader, WireFormat, Writer
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.messages.body import BodyReader, BodyWriter
from luthien_guard.wire.messages.made import error_of
from luthien_guard.wire.messages.reader import StreamReader
from luthien_guard.wire.messages.writer import StreamWriter
from luthien_guard.wire.requests import read_request, write_request

__all__ = ["MESSAGES", "Messages"]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "model": (str,),
    "messages": (list,),
    "system": (str, list),
    "stream": (bool,),  # "true" or 1 would be a stream for one reader and none for another
    "tools": (list,),
    "max_tokens": (int,),
}


class Messages:
    """The wire format `anthropic.messages`."""

    name = "anthropic.messages"
    suffix = "/messages"
    keepalive = b'event: ping\ndata: {"type": "ping"}\n\n'
    no_arguments = "{}"
    refusal: tuple[int, str] = (403, "permission_error")
    refuses_in_stream = False
    calls_last = True  # after a tool_use block only tool_use blocks may follow

    def read_request(self, body: bytes) -> ChatRequest:
        return read_request(self.name, body, _TYPES)

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return write_request(body, original, request)

    def reader(self, *, stream: bool, choices: int | None = None) -> Reader:
        return StreamReader() if stream else BodyReader()

    def writer(
        self, *, stream: bool, model: str, call_id: str, choices: int | None = None, usage: bool = False
    ) -> Writer:
        return StreamWriter(model, call_id) if stream else BodyWriter(model, call_id)

    def error(self, status: int, code: str, message: str) -> bytes:
        return dumps(error_of(status, message, code)).encode()


MESSAGES: Final[WireFormat] = Messages()
