"""anthropic.messages: the Messages API, as Anthropic and the clouds that host its models send it."""

from __future__ import annotations

from typing import Final

from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.anthropic_messages.body import BodyReader, BodyWriter
from luthien_guard.wire.anthropic_messages.made import error_body
from luthien_guard.wire.anthropic_messages.reader import StreamReader
from luthien_guard.wire.anthropic_messages.writer import StreamWriter
from luthien_guard.wire.format import Reader, WireFormat, Writer
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.requests import read_request, write_request

__all__ = ["MESSAGES", "Messages"]

_TYPES = {
    "model": (str,),
    "messages": (list,),
    "system": (str, list),
    "stream": (bool,),
    "tools": (list,),
    "max_tokens": (int,),
    "stop_sequences": (list,),
    "metadata": (dict,),
    "thinking": (dict,),
}


class Messages:
    """The wire format `anthropic.messages`."""

    name = "anthropic.messages"
    suffix = "/messages"
    #: Its own event: clients of this provider know no comments, or read them as a broken stream.
    keepalive = b'event: ping\ndata: {"type": "ping"}\n\n'
    calls_last = True

    def read_request(self, body: bytes) -> ChatRequest:
        return read_request(self.name, body, _TYPES)

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return write_request(body, original, request)

    def reader(self, *, stream: bool) -> Reader:
        return StreamReader() if stream else BodyReader()

    def writer(self, *, stream: bool, model: str, call_id: str) -> Writer:
        return StreamWriter(model, call_id) if stream else BodyWriter(model, call_id)

    def error(self, status: int, code: str, message: str) -> bytes:
        return dumps(error_body(status, code, message)).encode()


MESSAGES: Final[WireFormat] = Messages()
