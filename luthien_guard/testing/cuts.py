"""Ways to cut bytes on their way: a verdict must not depend on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from luthien_guard.testing.rendering.parts import Part

__all__ = ["Cut", "Cuts", "cuts_for"]

Cuts = Literal["whole", "some", "every"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A name for messages, and how a run of bytes between two pauses is cut."""

    name: str
    pieces: Callable[[list[bytes]], Iterable[bytes]]
    #: True: verdicts that wait are decided only after the last byte was fed.
    late: bool = False

    def __call__(self, parts: Iterable[Part]) -> Iterator[Part]:
        run: list[bytes] = []
        for part in parts:
            if isinstance(part, bytes):
                run.append(part)
                continue
            yield from self.pieces(run)
            run = []
            yield part
        yield from self.pieces(run)


def cuts_for(how: Cuts | Iterable[Cut], body: bytes) -> list[Cut]:
    """`whole`: as the frames come. `some`: also glued together, byte by byte and at random places. `every`: also in
    two, at every byte."""
    if not isinstance(how, str):
        return list(how)
    frames = Cut("frame by frame", list)
    if how == "whole":
        return [frames]
    some = [
        frames,
        Cut("frame by frame, verdicts late", list, late=True),
        Cut("in one piece", lambda run: [b"".join(run)]),
        Cut("byte by byte", lambda run: [bytes([byte]) for byte in b"".join(run)]),
        *(Cut(f"at random ({seed})", _at_random(seed)) for seed in range(3)),
    ]
    if how == "some":
        return some
    if how != "every":
        raise ValueError(f"cuts is {how!r}: use whole, some, every or a list of Cut")
    return [*some, *(Cut(f"in two at byte {at}", _in_two(at)) for at in range(1, len(body)))]


def _at_random(seed: int) -> Callable[[list[bytes]], Iterable[bytes]]:
    def pieces(run: list[bytes]) -> Iterator[bytes]:
        body, choose, at = b"".join(run), random.Random(seed), 0
        while at < len(body):
            size = choose.choice((1, 2, 3, 7, 20, 80, 400))
            yield body[at : at + size]
            at += size

    return pieces


def _in_two(at: int) -> Callable[[list[bytes]], Iterable[bytes]]:
    def pieces(run: list[bytes]) -> list[bytes]:
        body = b"".join(run)
        return [piece for piece in (body[:at], body[at:]) if piece]

    return pieces
