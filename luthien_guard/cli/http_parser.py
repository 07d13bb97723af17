"""httptools' parser of requests, for which every request is HTTP/1.1 to its end."""

from __future__ import annotations

from typing import Any

import httptools

__all__ = ["Parser"]


class Parser(httptools.HttpRequestParser):
    """Behind the head of a request that asks for another protocol (`Upgrade: h2c`) httptools leaves off, and what comes
    next it reads as a request: the body, which a proxy in front has not taken for one. Who does not speak that protocol
    answers as if it had not been asked for (RFC 9110, 7.8), so that head is read once more, without the question.

    `protocol`: uvicorn's, with what it heard of the head."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as error:
                if not self._protocol.passes_over():
                    raise
                data = memoryview(data)[error.args[0] :]
            super().feed_data(self._unasked())

    def _unasked(self) -> bytes:
        """The head without the question. Raises HttpParserError for CONNECT, which is nothing but the question."""
        method, version = self.get_method(), self.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserInvalidMethodError("there is no tunnel through here")
        line = b"%b %b HTTP/%b" % (method, self._protocol.url, version)
        headers = [
            b"%b: %b" % (name, _without_upgrade(name, value)) for name, value in self._protocol.headers
        ]
        return b"\r\n".join([line, *headers, b"\r\n"])


def _without_upgrade(name: bytes, value: bytes) -> bytes:
    """Both headers have to ask; `Upgrade` stays, for the application to see."""
    if name != b"connection":
        return value
    return b",".join(each for each in value.split(b",") if each.strip().lower() != b"upgrade")
