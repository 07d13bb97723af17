"""The texts of one choice of a stream, put together from their deltas."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import Channel
from luthien_guard.wire.chat.fields import follow, of_one_type, texts_of
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import leaves_as
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.strings import opaque

__all__ = ["Texts"]

_PLAIN: Final = len(("choices", 0, "delta", "content"))
_DELTA: Final = PieceKind.DELTA  # a look-up less for every token


class Texts:
    """By name: the member of the delta, or something else for texts that no client takes for that one."""

    __slots__ = ("_number", "_refused", "_sizes", "_typed", "all", "reasoning")

    def __init__(self, number: int) -> None:
        self.all: dict[str, Block] = {}
        self.reasoning = ""  # what its member is called: the first name that said something
        self._number = number  # of the choice
        self._refused = False  # a refusal has begun
        self._typed: set[str] = set()  # what has said something in parts that say they are a text
        # Of texts that were repeated: how many parts, of what length.
        self._sizes: dict[str, tuple[int, int]] = {}

    def add(self, name: str, channel: Channel, path: Path, text: str, pieces: list[Piece]) -> None:
        """More of a text."""
        block = self.all.get(name)
        if block is None:
            block = Block("text", choice=self._number, index=len(self.all), channel=channel)
            self.all[name] = block
            if channel == "refusal":
                self._refused = True
                follow(block, self.all.get(name.replace("refusal", "content")), pieces)
            pieces.append(Piece(PieceKind.START, block=block, path=path if _is_plain(path) else ()))
        block.source.append(text)
        pieces.append(Piece(_DELTA, block=block, path=path, text=text))

    def read(self, name: str, channel: Channel, value: Any, path: Path, pieces: list[Piece]) -> str:
        """The pieces of a member that is a text; why it is of no known kind, "" where it is. Some clients read content and
        refusal as one text, others as two: they are both where no content comes behind a refusal."""
        if self._refused and channel == "content" and value:
            opaque(value, path, pieces)
            pieces.append(leaves_as(path, DELETE))
            return "content behind a refusal"
        if type(value) is str:
            if value:
                self.add(name, channel, path, value, pieces)
            return ""
        if type(value) is list:
            self._read_parts(name, channel, value, path, pieces)
            return ""
        opaque(value, path, pieces)
        pieces.append(leaves_as(path, DELETE))
        return "a text that is neither string nor list"

    def read_reasoning(self, key: str, delta: dict[str, Any], path: Path, pieces: list[Piece]) -> str:
        """The same for reasoning, which has several names. Some clients join what they say, some read one of them: it
        leaves under the first name, unless that says the same in this delta."""
        value, first = delta[key], self.reasoning
        if not first and value:
            self.reasoning = key
        if not first or not value or delta.get(first) == value:
            return self.read(key, "reasoning", value, (*path, key), pieces)
        pieces.append(leaves_as((*path, key), DELETE))
        if type(value) is not str or delta.get(first):
            opaque(value, (*path, key), pieces)
            return "reasoning that says two things"
        pieces.append(leaves_as((*path, first), value))
        self.add(first, "reasoning", (*path, first), value, pieces)
        return ""

    def says(self, name: str, value: Any) -> bool:
        """True for what the text is so far."""
        block = self.all.get(name)
        return (
            block is not None
            and type(value) is str
            and self._size(name) == len(value)
            and block.text == value
        )

    def repeats(self, name: str, value: Any, path: Path, pieces: list[Piece]) -> bool:
        """The same, with its ECHO."""
        if not self.says(name, value):
            return False
        pieces.append(Piece(PieceKind.ECHO, block=self.all[name], path=path, text=value))
        return True

    def _size(self, name: str) -> int:
        """The length of a text so far, without putting it together."""
        source = self.all[name].source
        parts, size = self._sizes.get(name, (0, 0))
        if parts < len(source):
            size += sum(map(len, source[parts:]))
            self._sizes[name] = len(source), size
        return size

    def _read_parts(
        self, name: str, channel: Channel, parts: list[Any], path: Path, pieces: list[Piece]
    ) -> None:
        """Clients that have begun a string skip a list, others join the two: more of a string leaves as a string."""
        texts = [each for each in texts_of(name, channel, parts, path, pieces) if each[3]]
        own = [text for of, _, _, text in texts if of == name]
        if own and (channel != "content" or _are_apart(parts, self.all.get(name))):
            pieces.append(leaves_as(path, "".join(own)))
            self.add(name, channel, path, "".join(own), pieces)
            return
        for of, into, place, text in texts:
            self.add(of, into, place, text, pieces)
        if own:
            block = self.all[name]
            block.codec = (block.codec or 0) + len(own)
        if of_one_type(parts, path, pieces, begun=name in self._typed):
            self._typed.add(name)
        for at, part in enumerate(parts):
            # Or it is taken for more of a text at that index.
            if _has_index(part) and part.get("type") != "text":
                pieces.append(leaves_as((*path, at, "index"), DELETE))


def _is_plain(path: Path) -> bool:
    """A member of a delta that is a string, and no part of one: the same one in the next chunk is more of this text."""
    return len(path) == _PLAIN and path[2] == "delta"


def _are_apart(parts: list[Any], block: Block | None) -> bool:
    """`codec` counts the parts of a text. Where all of it came in parts, clients go on with parts, unless these say which
    of those before they are more of."""
    if block is None:
        return False
    return len(block.source) > (block.codec or 0) or any(map(_has_index, parts))


def _has_index(part: Any) -> bool:
    return type(part) is dict and "index" in part
