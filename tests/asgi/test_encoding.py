"""J10, J11: one layer, one member, a bound while decoding."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from luthien_guard.asgi.encoding import decode_body, decoder_for, layers
from luthien_guard.errors import BodyTooLarge, MalformedBody, UnsupportedEncoding

TEXT = b'{"model": "m", "text": "' + b"round and round " * 50 + b'"}'
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
each = pytest.mark.parametrize("name", ENCODERS)


@each
def test_whole(name: str) -> None:
    assert decode_body([name], ENCODERS[name](TEXT), len(TEXT)) == TEXT


@each
@pytest.mark.parametrize("step", [1, 7, 100])
def test_in_pieces(name: str, step: int) -> None:
    encoded = ENCODERS[name](TEXT)
    decoder = decoder_for([name])
    assert decoder is not None
    pieces = [decoder.feed(encoded[at : at + step], 10_000) for at in range(0, len(encoded), step)]
    decoder.close()
    assert b"".join(pieces) == TEXT


@each
def test_one_byte_over_the_limit(name: str) -> None:
    with pytest.raises(BodyTooLarge):
        decode_body([name], ENCODERS[name](TEXT), len(TEXT) - 1)


@each
def test_a_bomb_is_refused_before_it_is_unpacked(name: str) -> None:
    bomb = ENCODERS[name](bytes(20_000_000))
    with pytest.raises(BodyTooLarge):
        decode_body([name], bomb, 100_000)


@each
@pytest.mark.parametrize("tail", [b"x", b"\0", b"again"])
def test_nothing_may_follow(name: str, tail: bytes) -> None:
    encoded = ENCODERS[name](TEXT)
    with pytest.raises(MalformedBody):
        decode_body([name], encoded + (encoded if tail == b"again" else tail), 1_000_000)


@each
def test_nor_come_later(name: str) -> None:
    decoder = decoder_for([name])
    assert decoder is not None
    decoder.feed(ENCODERS[name](TEXT), 1_000_000)
    with pytest.raises(MalformedBody):
        decoder.feed(b"x", 1_000_000)


@each
def test_a_cut_body(name: str) -> None:
    with pytest.raises(MalformedBody):
        decode_body([name], ENCODERS[name](TEXT)[:-1], 1_000_000)


@each
def test_a_plain_body_under_a_false_label(name: str) -> None:
    with pytest.raises(MalformedBody):
        decode_body([name], TEXT, 1_000_000)


@pytest.mark.parametrize("name", ["compress", "x-custom", "gzip;q=1", "GZIP "])
def test_other_names(name: str) -> None:
    if layers([name.encode()]) == ["gzip"]:
        return  # case and blanks do not matter
    with pytest.raises(UnsupportedEncoding):
        decode_body(layers([name.encode()]), b"", 10)


def test_stacked() -> None:
    with pytest.raises(UnsupportedEncoding, match="more than once"):
        decode_body(layers([b"gzip", b"gzip"]), b"", 10)


def test_identity_is_no_layer() -> None:
    assert layers([b"identity", b"", b" Identity , gzip"]) == ["gzip"]
    assert decoder_for([]) is None
