"""openai.chat: Chat Completions, as OpenAI and everybody who is compatible with it sends them."""

from __future__ import annotations

from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.format import Reader, WireFormat, Writer
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.openai_chat.body import BodyWriter
from luthien_guard.wire.openai_chat.made import error_of
from luthien_guard.wire.openai_chat.reader import ChatReader
from luthien_guard.wire.openai_chat.requests import read_request, write_request
from luthien_guard.wire.openai_chat.writer import StreamWriter

__all__ = ["CHAT"]


class _Chat:
    name = "openai.chat"
    suffix = "/chat/completions"
    keepalive = b": keepalive\n\n"
    calls_last = False

    def read_request(self, body: bytes) -> ChatRequest:
        return read_request(self.name, body)

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return write_request(body, original, request)

    def reader(self, *, stream: bool) -> Reader:
        return ChatReader(stream=stream)

    def writer(self, *, stream: bool, model: str, call_id: str) -> Writer:
        return StreamWriter(model, call_id) if stream else BodyWriter(model, call_id)

    def error(self, status: int, code: str, message: str) -> bytes:
        return dumps(error_of(status, code, message)).encode()


#: The wire format `openai.chat`.
CHAT: WireFormat = _Chat()
