"""litellm's chunks on both sides of the guard: what it is told of them, and what leaves instead of what it took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthien_guard.client.alike import Alike
from luthien_guard.client.exchange import ClientExchange
from luthien_guard.client.words import Words
from luthien_guard.client.written import chunks_in
from luthien_guard.control_plane.service import Release

__all__ = ["Chunks"]


class Chunks:
    """Of one attempt. The guard is told of each chunk its `text_of`, or where there is none how it is `framed`. Where it answers
    with a text, that is `left`; where it answers with a release, that is what it has `decided`, and `leaving` makes chunks of
    it, and of every later release."""

    __slots__ = (
        "_alike",
        "_count",
        "_exchange",
        "_flows",
        "_frame",
        "_json",
        "_like",
        "_originals",
        "_words",
    )

    def __init__(self, exchange: ClientExchange) -> None:
        self._exchange = exchange
        self._json = exchange.dialect.json
        self._originals: dict[int | None, Any] = {}  # by the number of the chunk, until it is decided
        self._count = 0
        self._like: Any = None  # the last chunk that came: made ones carry its notes
        self._frame = b""  # how it is framed, once somebody needs that
        self._words = Words()
        self._alike = Alike()
        self._flows = False  # of a chunk that is alike, the text is enough

    def text_of(self, chunk: Any) -> str | None:
        """The text of a chunk of which nothing else has to be said; "" or None where it has."""
        return self._alike.text_of(chunk) if self._flows else None

    def framed(self, chunk: Any) -> bytes:
        """As an event of its wire format."""
        self._number(chunk)
        if isinstance(chunk, bytes):
            return chunk
        return chunk.encode() if isinstance(chunk, str) else self._came()

    def left(self, chunk: Any, text: str, left: str) -> Any:
        """What leaves of a chunk whose text was enough, when this is what is left of that."""
        self._count += 1
        self._like, self._frame = chunk, b""
        return chunk if left == text else self._alike.with_text(chunk, left)

    def decided(self, chunk: Any, text: str | None, release: Release) -> None:
        """This release is the guard's answer to it, of which it was told the text alone if there is one."""
        if text:
            self._number(chunk)
        elif release.alike is not None and text is None:
            self._alike.learn(chunk, self._said(), release.alike)
        self._flows = release.alike is not None

    def leaving(self, release: Release) -> Iterator[Any]:
        """What came as it came, everything else as litellm would have made it."""
        originals = self._originals
        for raw, source in release.items:
            chunk = originals.pop(source, None)
            if chunk is None:
                chunk = self._words.again(self._like, self._came(), raw)
            if chunk is None:
                yield from self.made(raw)
            else:
                yield chunk
        if originals and not release.held:
            originals.clear()

    def made(self, raw: bytes) -> Iterator[Any]:
        """litellm's objects for frames that the guard wrote; where litellm gives bytes, the frames. Raises litellm's
        APIError for an error that it tells."""
        exchange, like = self._exchange, self._like
        if isinstance(like, (bytes, str)) or (like is None and exchange.dialect.of_bytes):
            if raw:
                yield raw
            return
        for data in chunks_in(raw, exchange):
            yield exchange.dialect.chunk(data, like, self._said())
            self._words.learn(self._came(), data)

    def held(self) -> Iterator[bytes]:
        """The JSON of those that are not decided."""
        return map(self._json, self._originals.values())

    def _number(self, chunk: Any) -> None:
        if not isinstance(chunk, (bytes, str)):
            self._originals[self._count] = chunk
        self._count += 1
        self._like, self._frame = chunk, b""

    def _came(self) -> bytes:
        """The frame of the last chunk."""
        like = self._like
        if not self._frame and like is not None and not isinstance(like, (bytes, str)):
            self._frame = b"data: %b\n\n" % self._json(like)
        return self._frame

    def _said(self) -> bytes:
        """Its JSON."""
        return self._came()[len("data: ") : -2]
