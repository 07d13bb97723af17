"""Texts as clients join them: `output_text` of the SDKs is all texts of a response in one, and so is what prints deltas.

Everything is said several times, by events of several types, and clients read the events of one type. So what stands in
front of a text is asked for each type by itself.
"""

from __future__ import annotations

from luthien_guard.wire.format import Block, Piece, PieceKind

__all__ = ["Joined"]


class Joined:
    """The texts of one response. `reading`: the type of the event that is read now."""

    __slots__ = ("_begun", "_latest", "_said", "reading")

    def __init__(self) -> None:
        self.reading = ""
        #: By the ids of blocks: how many had begun before, and whether it was a delta that began it.
        self._begun: dict[int, tuple[int, bool]] = {}
        #: What was said last, by type of event and kind of text.
        self._latest: dict[tuple[str, str], Block] = {}
        self._said: dict[str, Block] = {}  # by kind: what a delta said last

    def restart(self) -> None:
        """The event says everything from the beginning."""
        for key in [key for key in self._latest if key[0] == self.reading]:
            del self._latest[key]

    def begin(self, kind: str, block: Block, pieces: list[Piece]) -> None:
        """A text is heard of for the first time, or as it was not heard before. The one in front of it is whole."""
        before = self._latest.get((self.reading, kind))
        if kind == "refusal" and before is None:  # Vercel's SDK reads it as more of the text
            before = self._said.get("text")
        if self.reading.endswith(".added"):  # deltas go on from there
            before = self._said.get(kind, before)
        block.follows = before
        self._begun[id(block)] = len(self._begun), self.reading.endswith(".delta")
        self.go_on(kind, block)
        if before is not None and not before.closed:
            before.closed = True
            pieces.append(Piece(PieceKind.STOP, block=before))

    def go_on(self, kind: str, block: Block) -> None:
        """More of a text, or the same again."""
        self._latest[self.reading, kind] = block
        if self.reading.endswith(".delta"):
            self._said[kind] = block

    @property
    def refused(self) -> bool:
        """A delta has refused. Text behind it would be read behind the refusal by some clients, and without it by others."""
        return "refusal" in self._said

    def is_over(self, kind: str, block: Block) -> bool:
        """Whether more of a text would be read behind another one: deltas have begun that since, or never this one."""
        number, spoken = self._begun.get(id(block), (0, True))
        said = self._said.get(kind)
        return not spoken or (said is not None and number < self._begun[id(said)][0])

    def is_apart(self, kind: str, item: object) -> bool:
        """Whether a delta of another item has been read last: clients that go by items read this one without it."""
        said = self._said.get(kind)
        return said is not None and said.codec is not item

    def repeats(self, kind: str, block: Block) -> bool:
        """Whether a repeat of a text is read behind nothing but what it was read behind before."""
        latest = self._latest.get((self.reading, kind))
        return latest is None or latest is block.follows  # not the same once more: they would have it twice
