"""The fields of a message and of its content blocks: the part that streams and bodies share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from luthien_guard.events import Channel, Chunk, ToolKind
from luthien_guard.wire.anthropic_messages.sections import Section, is_known, tool_kind
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.json_text import slice_of
from luthien_guard.wire.strings import opaque

__all__ = ["Fields", "json_of", "stop"]

_SEEN_MAX: Final = 64
_DATA: Final = re.compile(rb"(?:\A|(?<=[\r\n]))data: ?([^\r\n]*)")
#: Strings of a citation that quote or name what is cited; the others (`encrypted_index`, ids) are opaque.
_CITED: Final = frozenset({"cited_text", "title", "document_title", "url", "source"})
_CHANNELS: Final[dict[str, Channel]] = {"text": "content", "thinking": "reasoning"}
_CALL_FIELDS: Final = frozenset({"type", "id", "name", "input", "caller"})
#: Members of a message that are read by name; any other is opaque.
_MESSAGE_FIELDS: Final = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage"})


def json_of(chunk: Chunk) -> str:
    """The JSON text of a body or of an event."""
    if chunk.kind == "body":
        return chunk.raw.decode()
    found = _DATA.search(chunk.raw)
    assert found is not None, "a data chunk has a data line"
    return found.group(1).decode()


def stop(section: Section, pieces: list[Piece], *, closed: bool = True) -> None:
    """End the section's block. A call that said nothing has the arguments `{}`, as clients take it; the place of
    that piece is (), because it stands nowhere."""
    block = section.block
    if block is None:
        return
    block.closed = closed
    if closed and block.kind == "call" and not block.source:
        block.source.append("{}")
        pieces.append(Piece(PieceKind.DELTA, block=block, text="{}", value=section))
    pieces.append(Piece(PieceKind.STOP, block=block))


class Fields:
    """Reads content blocks and what surrounds them. Looks at each identifier of a response once."""

    __slots__ = ("_calls", "_seen", "count", "unknown")

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._calls: dict[str, list[Block]] = {}  # by id; ids come twice where upstream errs
        self.count = 0  # content blocks so far
        self.unknown = ""

    def identifier(self, value: Any, path: Path, pieces: list[Piece], *, owner: Path = ()) -> None:
        """Nothing for what looks like an identifier; anything else is text after all."""
        if type(value) is str:
            if value in self._seen:
                return
            if is_identifier(value):
                if len(self._seen) < _SEEN_MAX:
                    self._seen.add(value)
                return
        if value is not None:
            opaque(value, path, pieces, owner=owner)

    # -- messages ------------------------------------------------------------------------------------------------------

    def message(self, message: dict[str, Any], path: Path, chunk: Chunk, pieces: list[Piece]) -> None:
        """A message as it stands in a body, or in `message_start`. Its finish comes last: all calls are known then."""
        for key, value in message.items():
            place = (*path, key)
            if key not in _MESSAGE_FIELDS:
                opaque({key: value}, path, pieces)
            elif key == "content" and type(value) is list:
                for at, block in enumerate(value):
                    stop(self.begin(block, None, (*place, at), chunk, pieces, whole=True), pieces)
            elif key == "content":
                opaque(value, place, pieces)
            elif key == "usage":
                self.usage(value, place, pieces)
            elif key != "stop_reason":
                self.identifier(value, place, pieces)
        self.finish(message.get("stop_reason"), (*path, "stop_reason"), pieces)

    def usage(self, value: Any, path: Path, pieces: list[Piece]) -> None:
        opaque(value, path, pieces)
        if type(value) is dict:
            pieces.append(Piece(PieceKind.USAGE, path=path, value=value))

    def finish(self, reason: Any, path: Path, pieces: list[Piece]) -> None:
        self.identifier(reason, path, pieces)
        if type(reason) is str and reason:
            pieces.append(Piece(PieceKind.FINISH, path=path, text=reason))

    def error(self, error: Any, path: Path, pieces: list[Piece]) -> None:
        """An error object; a gateway's may be a plain string."""
        message = error.get("message") if type(error) is dict else error
        text = message if type(message) is str else "an error without a message"
        pieces.append(Piece(PieceKind.FAILED, path=path, text=text))
        if type(error) is dict:
            self.identifier(error.get("type"), (*path, "type"), pieces)
            known = ("type", "message") if type(message) is str else ("type",)
            opaque({key: value for key, value in error.items() if key not in known}, path, pieces)
        elif type(error) is not str:
            opaque(error, path, pieces)

    # -- content blocks ------------------------------------------------------------------------------------------------

    def begin(
        self, raw: Any, index: Any, path: Path, chunk: Chunk, pieces: list[Piece], *, whole: bool = False
    ) -> Section:
        """A content block begins; `whole`: it stands here from its first to its last word."""
        kind = raw.get("type") if type(raw) is dict else None
        kind = kind if type(kind) is str else ""
        section = self.section(kind, index, path, raw)
        owner = path if whole else ()
        if section.block is None:
            pieces.append(Piece(PieceKind.DERIVED, path=path, value=section, owner=owner))
            self._carried(raw, kind, path, pieces, section, owner)
            return section
        pieces.append(Piece(PieceKind.START, block=section.block, value=section, owner=owner))
        read = self._call if section.block.kind == "call" else self._text
        read(raw, section, path, chunk, pieces, whole)
        return section

    def section(self, kind: str, index: Any, path: Path, raw: Any) -> Section:
        """The section of the next content block, with its block if it has one."""
        block: Block | None = None
        tool = tool_kind(kind)
        if kind in _CHANNELS:
            block = Block("text", index=self.count, channel=_CHANNELS[kind], writable=kind == "text")
        elif tool is not None:
            block = self._new_call(raw, tool, kind)
        self.count += 1
        section = Section(kind, index, path, block)
        if block is not None:
            block.codec = section
        return section

    def _new_call(self, raw: dict[str, Any], tool: ToolKind, kind: str) -> Block:
        id, name = raw.get("id"), raw.get("name")
        if tool == "function" and raw.get("toolset_name") == "computer":
            tool = "computer"
        fallback = kind if tool == "unknown" else ""
        block = Block(
            "call",
            index=self.count,
            id=id if type(id) is str else "",
            name=name if type(name) is str else fallback,
            tool_kind=tool,
        )
        if block.id:
            self._calls.setdefault(block.id, []).append(block)
        return block

    def _text(
        self, raw: dict[str, Any], section: Section, path: Path, _chunk: Chunk, pieces: list[Piece], whole: bool
    ) -> None:
        owner = path if whole else ()
        for key, value in raw.items():
            place = (*path, key)
            if key == section.key and type(value) is str:
                if value:
                    pieces.append(_delta(section, place, value, owner))
            elif key == "citations" and type(value) is list:
                for at, citation in enumerate(value):
                    self.citation(citation, (*place, at), pieces)
            elif key != "type":
                opaque({key: value}, path, pieces, owner=owner)

    def _call(
        self, raw: dict[str, Any], section: Section, path: Path, chunk: Chunk, pieces: list[Piece], whole: bool
    ) -> None:
        owner = path if whole else ()
        block = section.block
        assert block is not None
        for key, value in raw.items():
            place = (*path, key)
            if key in ("id", "type"):
                self.identifier(value, place, pieces, owner=owner)
            elif key == "name" and type(value) is str:
                pieces.append(Piece(PieceKind.DERIVED, block=block, path=place, text=value, owner=owner))
            elif key == "caller":
                self._caller(value, place, pieces, owner)
            elif key not in _CALL_FIELDS or key == "name":
                opaque({key: value}, path, pieces, owner=owner)
        self._arguments(raw, section, path, lambda place: slice_of(json_of(chunk), place), pieces, whole)

    def _arguments(
        self,
        raw: dict[str, Any],
        section: Section,
        path: Path,
        json_at: Callable[[Path], str],
        pieces: list[Piece],
        whole: bool,
    ) -> None:
        """In a body `input` is the arguments; in a stream it is a blank that deltas fill, unless it is not blank."""
        value = raw.get("input")
        owner = path if whole else ()
        place = (*path, "input")
        if "input" not in raw and section.block is not None and section.block.tool_kind == "unknown":
            if all(key in _CALL_FIELDS for key in raw):
                return
            place = path  # nobody knows where its arguments are: all of it is shown
        elif not whole and not value and type(value) not in (int, float, bool):
            return
        elif "input" not in raw:
            pieces.append(_delta(section, place, "{}", owner, is_json=True))
            return
        elif type(value) is str:
            pieces.append(_delta(section, place, value, owner))
            return
        pieces.append(_delta(section, place, json_at(place), owner, is_json=True))

    def _carried(
        self, raw: Any, kind: str, path: Path, pieces: list[Piece], section: Section, owner: Path
    ) -> None:
        """A block without a text of the answer: results of tools, encrypted thinking, whatever comes next."""
        if not is_known(kind):
            self.unknown = f"a content block of type {kind[:40]!r}"
            opaque(raw, path, pieces, owner=owner)
            return
        of = raw.get("tool_use_id")
        section.calls = tuple(self._calls.get(of, ())) if type(of) is str else ()
        for key, value in raw.items():
            place = (*path, key)
            if key in ("tool_use_id", "type"):
                self.identifier(value, place, pieces, owner=owner)
            elif key == "caller":
                self._caller(value, place, pieces, owner)
            else:
                opaque({key: value}, path, pieces, owner=owner)

    def _caller(self, value: Any, path: Path, pieces: list[Piece], owner: Path) -> None:
        """Who made the call: `{"type": "direct"}`, or the server tool whose program did."""
        if type(value) is not dict:
            opaque(value, path, pieces, owner=owner)
            return
        for key, inner in value.items():
            if key in ("type", "tool_id"):
                self.identifier(inner, (*path, key), pieces, owner=owner)
            else:
                opaque({key: inner}, path, pieces, owner=owner)

    def citation(self, citation: Any, path: Path, pieces: list[Piece]) -> None:
        """What it quotes and names is a text of its own, on the channel `citation`."""
        if type(citation) is not dict:
            opaque(citation, path, pieces)
            return
        for key, value in citation.items():
            place = (*path, key)
            if key in _CITED and type(value) is str:
                if value:
                    block = Block("text", index=self.count, channel="citation", writable=False)
                    block.closed = True
                    block.source.append(value)
                    pieces.append(Piece(PieceKind.START, block=block))
                    pieces.append(Piece(PieceKind.DELTA, block=block, path=place, text=value))
                    pieces.append(Piece(PieceKind.STOP, block=block))
            elif key == "type":
                self.identifier(value, place, pieces)
            else:
                opaque({key: value}, path, pieces)


def _delta(section: Section, path: Path, text: str, owner: Path, *, is_json: bool = False) -> Piece:
    block = section.block
    assert block is not None
    block.source.append(text)
    return Piece(PieceKind.DELTA, block=block, path=path, text=text, owner=owner, is_json=is_json, value=section)
