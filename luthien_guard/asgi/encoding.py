"""Content encodings, undone with a bound: nothing is decoded further than the limit before the limit is checked.

One layer, one member: a second gzip member, a second zstd frame or any trailing byte is what decoders disagree about, so
it is an error. brotli and zstandard are extras; without them their encodings are unsupported.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from luthien_guard.errors import BodyTooLarge, MalformedBody, UnsupportedEncoding

__all__ = ["Decoder", "decode_body", "decoder_for", "layers"]

#: RFC 9659: what a zstd content encoding may ask a receiver to remember.
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
#: Compressed bytes given to zstandard at once. It has no bound of its own on what one call may produce; a block of
#: 128 KiB takes at least 4 bytes, so that this many bytes make at most 4 MiB.
_ZSTD_STEP: Final = 128


class Decoder(Protocol):
    """One encoded body, piece by piece."""

    def feed(self, data: bytes, limit: int) -> bytes:
        """Decode. Raises BodyTooLarge past `limit` bytes of output of this call, MalformedBody."""
        ...

    def close(self) -> None:
        """No more is coming. Raises MalformedBody when the body was cut."""
        ...


class _Zlib:
    """gzip and deflate (RFC 1950; raw deflate, which some senders mean, is refused like any damage)."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    def feed(self, data: bytes, limit: int) -> bytes:
        if self._inner.eof and data:
            raise MalformedBody("bytes follow the end of the encoded body")
        try:
            decoded = self._inner.decompress(data, limit + 1)
        except zlib.error as error:
            raise MalformedBody(f"the body is not what its content-encoding says: {error}") from None
        if len(decoded) > limit or self._inner.unconsumed_tail:
            raise BodyTooLarge(f"the decoded body is larger than {limit} bytes")
        if self._inner.unused_data:
            raise MalformedBody("bytes follow the end of the encoded body")
        return decoded

    def close(self) -> None:
        if not self._inner.eof:
            raise MalformedBody("the encoded body is cut off")


class _Brotli:
    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped, unused-ignore]

        self._brotli: Any = brotli
        self._inner: Any = brotli.Decompressor()

    def feed(self, data: bytes, limit: int) -> bytes:
        if self._inner.is_finished() and data:
            raise MalformedBody("bytes follow the end of the encoded body")
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                part: bytes = self._inner.process(data, output_buffer_limit=65536)
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise BodyTooLarge(f"the decoded body is larger than {limit} bytes")
                if self._inner.is_finished() or self._inner.can_accept_more_data():
                    break
                data = b""
        except self._brotli.error as error:
            raise MalformedBody(f"the body is not what its content-encoding says: {error}") from None
        return b"".join(parts)

    def close(self) -> None:
        if not self._inner.is_finished():
            raise MalformedBody("the encoded body is cut off")


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._error: Any = zstandard.ZstdError
        self._inner: Any = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def feed(self, data: bytes, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        for at in range(0, len(data), _ZSTD_STEP):
            if self._inner.eof:
                raise MalformedBody("bytes follow the end of the encoded body")
            try:
                part: bytes = self._inner.decompress(data[at : at + _ZSTD_STEP])
            except self._error as error:
                raise MalformedBody(f"the body is not what its content-encoding says: {error}") from None
            parts.append(part)
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"the decoded body is larger than {limit} bytes")
            if self._inner.unused_data:
                raise MalformedBody("bytes follow the end of the encoded body")
        return b"".join(parts)

    def close(self) -> None:
        if not self._inner.eof:
            raise MalformedBody("the encoded body is cut off")


_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {
    "gzip": lambda: _Zlib(31),
    "x-gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
    "br": _Brotli,
    "zstd": _Zstd,
}


def layers(values: list[bytes]) -> list[str]:
    """The encodings that content-encoding header values name, in order; `identity` is none."""
    if not values:
        return []
    names = b",".join(values).decode("latin-1").lower().split(",")
    return [name for each in names if (name := each.strip(" \t")) not in ("", "identity")]


def decoder_for(names: list[str]) -> Decoder | None:
    """The decoder of these layers, None when there are none. Raises UnsupportedEncoding."""
    if not names:
        return None
    if len(names) > 1:
        raise UnsupportedEncoding("the body is encoded more than once")
    make = _DECODERS.get(names[0])
    if make is None:
        raise UnsupportedEncoding(f"the content encoding {names[0][:40]!r} is not supported")
    try:
        return make()
    except ImportError:
        raise UnsupportedEncoding(f"the content encoding {names[0]!r} is not installed here") from None


def decode_body(names: list[str], body: bytes, limit: int) -> bytes:
    """A whole body without its encoding. Raises UnsupportedEncoding, MalformedBody, BodyTooLarge."""
    decoder = decoder_for(names)
    if decoder is None:
        return body
    decoded = decoder.feed(body, limit)
    decoder.close()
    return decoded
