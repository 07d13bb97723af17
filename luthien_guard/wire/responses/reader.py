"""Reads Responses, streamed or whole.

Everything is said up to four times: as deltas, as `*.done`, as `output_item.done`, and in the response at the end. The
first time is the text; a repeat that says the same is an echo; one that says something else is a text of its own.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.foreign import left_out, no_answer, of_no_kind
from luthien_guard.wire.format import Block, Piece, PieceKind, is_identifier
from luthien_guard.wire.indices import leaves_as, strings_only
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.responses import calls, texts
from luthien_guard.wire.responses.items import Item, Items
from luthien_guard.wire.responses.members import BESIDES_AN_ITEM, OF_CHAT, strict, strict_logprobs, without
from luthien_guard.wire.responses.previews import preview
from luthien_guard.wire.responses.responses import end_items, failure, read_item, read_response
from luthien_guard.wire.responses.shown import Shown, fields, show
from luthien_guard.wire.responses.tables import (
    CALL_EVENTS,
    DELTAS,
    DONES,
    EVENT,
    PREVIEWS,
    PROGRESS,
    RESPONSES,
    TERMINAL,
    TextEvent,
)

__all__ = ["ResponsesReader"]

#: The fast path's memory: what the last delta was, and the block that it belongs to.
Recent = tuple[str, int, "str | None", "str | None", "int | None", Block]
DELTA: Final = PieceKind.DELTA  # members of enums are slow to look up
NOTHING: Final[Recent] = ("", -1, None, None, None, Block("text"))


class ResponsesReader:
    """Implements `Reader`, for streams and bodies."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._items = Items()
        self._shown = Shown()
        self._ended = False
        self._recent = NOTHING

    def read(self, chunk: Chunk) -> list[Piece]:
        data = chunk.data
        self.unknown = ""
        if type(data) is dict:
            if chunk.kind == "data":
                return self._again(data) or self._noted(self._event(data, chunk.event))
            return self._noted(self._body(data))
        pieces: list[Piece] = []
        if chunk.kind != "done" and chunk.raw.strip():
            self.unknown = of_no_kind(data, "an event that is no object")
            show(data, (), pieces)
        return pieces

    def _noted(self, pieces: list[Piece]) -> list[Piece]:
        self.unknown = self.unknown or left_out(pieces)
        return pieces

    def close(self) -> list[Piece]:
        pieces: list[Piece] = []
        end_items(self._items.all, pieces, closed=self._ended)
        return pieces

    # -- deltas --------------------------------------------------------------------------------------------------------

    def _again(self, data: dict[str, Any]) -> list[Piece] | None:
        """The next delta of the same text or arguments: nearly all events are. None when it is anything else."""
        kind, index, id, part_name, part, block = self._recent
        number = data.get("output_index")
        if data.get("type") != kind or number != index or type(number) is not int or block.closed:
            return None
        known = 3  # type, output_index, delta
        if id is not None:
            if data.get("item_id") != id:
                return None
            known += 1
        if part_name is not None:
            place = data.get(part_name)
            if place != part or type(place) is not int:
                return None
            known += 1
        if type(data.get("sequence_number")) is int:
            known += 1
        if data.get("logprobs") == []:
            known += 1
        filler = data.get("obfuscation")
        if type(filler) is str and is_identifier(filler):
            known += 1
        text = data.get("delta")
        if type(text) is not str or not text or len(data) != known:
            return None
        block.source.append(text)
        return [Piece(DELTA, block=block, path=("delta",), text=text)]

    def _remember(
        self, data: dict[str, Any], item: Item, block: Block, part: str | None = None, at: int | None = None
    ) -> None:
        number, id = data.get("output_index"), data.get("item_id")
        place = data.get(part) if part is not None else None
        plain = type(number) is int and number == item.index and item.name is None
        named = (id or "") == item.id or (id is None and item.call is block)
        if plain and named and (part is None or (type(place) is int and place == at)):
            self._recent = (data["type"], item.index, id, part, place, block)

    def _text_delta(self, data: dict[str, Any], event: TextEvent, pieces: list[Piece]) -> None:
        text = data.get("delta")
        item = self._items.of_event(data, pieces, fresh=True, voice=(event.kind, data["type"]))
        if text and self._is_elsewhere(item, data, event):
            item = self._items.instead_of(item, data, pieces)
        if "item_id" not in data and item.id:  # without one, some clients skip it
            pieces.append(leaves_as(("item_id",), item.name or item.id))
        calls.touch(item, pieces)
        if type(text) is not str:
            _no_text(data, "delta", pieces)
            return
        if text and event.kind == "text" and self._items.joined.refused:
            _no_text(data, "delta", pieces)
            self.unknown = "text behind a refusal"
            return
        block = None
        if text:
            at = item.part(data, event.part, pieces)
            block = texts.delta(item, (event.kind, at), event.channel, text, ("delta",), pieces)
            if item.call is None:
                self._remember(data, item, block, event.part, at)
        if data.get("logprobs"):
            texts.logprobs(data["logprobs"], ("logprobs",), block, text, pieces)
        strict_logprobs(data, pieces)
        fields(data, (), EVENT, pieces, ("delta", "logprobs"))

    def _is_elsewhere(self, item: Item, data: dict[str, Any], event: TextEvent) -> bool:
        """Whether clients would put a delta to another text, or behind one that was begun after its own."""
        if item.astray and item.misplaces(data, event.part):
            return True
        block = item.texts.get((event.kind, item.place(data, event.part)))
        return (
            texts.is_apart(item, event.kind)
            if block is None
            else self._items.joined.is_over(event.kind, block)
        )

    def _text_done(self, data: dict[str, Any], event: TextEvent, pieces: list[Piece]) -> None:
        text = data.get(event.field)
        item = self._items.of_event(data, pieces)
        calls.touch(item, pieces)
        if type(text) is not str:
            _no_text(data, event.field, pieces)
            return
        key = (event.kind, item.part(data, event.part, pieces))
        block = texts.repeat(item, key, event.channel, text, (event.field,), pieces)
        if data.get("logprobs"):
            texts.logprobs(data["logprobs"], ("logprobs",), block, text, pieces)
        fields(data, (), EVENT, pieces, (event.field, "logprobs"))

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _call_event(self, data: dict[str, Any], prefix: str, step: str, pieces: list[Piece]) -> None:
        kind, field = CALL_EVENTS[prefix]
        field = "delta" if step == "delta" else field
        item = self._items.of_event(
            data, pieces, fresh=step == "delta", voice=("call", prefix) if step == "delta" else None
        )
        text, name = data.get(field), data.get("name")
        known: set[str] = set()
        calls.touch(item, pieces)
        if type(text) is not str:
            _no_text(data, field, pieces)
            return
        known.add(field)
        if step == "delta":
            calls.fragment(item, kind, text, pieces)
            assert item.call is not None
            self._remember(data, item, item.call)
        else:
            known |= {"name"} if type(name) is str else set()
            strings_only(data, "name", (), DELETE, pieces)
            calls.say_whole(item, kind, name if type(name) is str else "", text, (field,), pieces)
        fields(data, (), EVENT, pieces, known)

    def _preview(self, data: dict[str, Any], prefix: str, step: str, pieces: list[Piece]) -> None:
        kind, field = PREVIEWS[prefix]
        field = "delta" if step == "delta" else field
        item = self._items.of_event(
            data, pieces, fresh=step == "delta", voice=("call", prefix) if step == "delta" else None
        )
        text = data.get(field)
        if type(text) is not str:
            calls.touch(item, pieces)
            _no_text(data, field, pieces)
            return
        key = item.part(data, "command_index", pieces) if prefix.endswith("command") else "diff"
        preview(item, kind, key, text, (field,), pieces, whole=step == "done")
        fields(data, (), EVENT, pieces, (field,))

    # -- other events --------------------------------------------------------------------------------------------------

    def _event(self, data: dict[str, Any], name: str | None) -> list[Piece]:
        pieces: list[Piece] = []
        self._recent = NOTHING  # whatever this is, the next delta may belong elsewhere
        data = without(data, OF_CHAT, pieces)
        strict(data, pieces)
        kind = data.get("type")
        if type(kind) is str:
            self._typed(kind, data, pieces)
            return pieces
        if name:  # some clients go by it, some by the type
            self._typed(name, {**data, "type": name}, pieces)
            pieces.append(leaves_as(("type",), name))
        else:
            show(data, (), pieces)
            strings_only(data, "type", (), DELETE, pieces)
        self.unknown = self.unknown or of_no_kind(data, "an event without a type")
        return pieces

    def _typed(self, kind: str, data: dict[str, Any], pieces: list[Piece]) -> None:
        self._items.joined.reading = kind
        prefix, _, step = kind.rpartition(".")
        if kind in DELTAS:
            self._text_delta(data, DELTAS[kind], pieces)
        elif kind in DONES:
            self._text_done(data, DONES[kind], pieces)
        elif kind in RESPONSES:
            self._response(kind, data, pieces)
        elif prefix == "response.output_item" and step in ("added", "done"):
            self._item(data, step, pieces)
        elif prefix.endswith("_part") and step in ("added", "done"):
            self._part(data, "summary" if "summary" in prefix else "content", step, pieces)
        elif prefix in CALL_EVENTS and step in ("delta", "done"):
            self._call_event(data, prefix, step, pieces)
        elif prefix in PREVIEWS and step in ("added", "delta", "done"):
            self._preview(data, prefix, step, pieces)
        else:
            self._other(kind, data, pieces)

    def _response(self, kind: str, data: dict[str, Any], pieces: list[Piece]) -> None:
        response = data.get("response")
        last = kind in TERMINAL
        if isinstance(response, dict):
            self._note(response)
            self.unknown = read_response(response, ("response",), self._items, self._shown, pieces, last=last)
            fields(data, (), EVENT, pieces, ("response",))
        else:
            fields(data, (), EVENT, pieces)
        if last:
            self._ended = True
            end_items(self._items.all, pieces)
            pieces.append(Piece(PieceKind.END))

    def _note(self, response: dict[str, Any]) -> None:
        id, model = response.get("id"), response.get("model")
        self.id = id if isinstance(id, str) else self.id
        self.model = model if isinstance(model, str) else self.model

    def _item(self, data: dict[str, Any], step: str, pieces: list[Piece]) -> None:
        data = without(data, BESIDES_AN_ITEM, pieces)
        raw = data.get("item")
        item = self._items.of_event(data, pieces, begins=step == "added")
        first, item.begun = not item.begun, True
        content = raw.get("content") if isinstance(raw, dict) else None
        if first and step == "added" and isinstance(content, list) and content:
            item.listed["content_index"] = set(range(len(content)))
        if isinstance(raw, dict):
            self.unknown = read_item(item, raw, ("item",), pieces, owner=(), final=step == "done")
            fields(data, (), EVENT, pieces, ("item",))
        else:
            calls.touch(item, pieces)
            fields(data, (), EVENT, pieces)
        if step == "done":
            end_items([item], pieces)

    def _part(self, data: dict[str, Any], field: str, step: str, pieces: list[Piece]) -> None:
        item = self._items.of_event(data, pieces, fresh=step == "added")
        name, anew = f"{field}_index", False
        if step == "added" and "part" in data:
            anew = texts.is_begun(item, data["part"], field, item.place(data, name))
            if texts.says_apart(item, data["part"]) or not item.list_part(data, name, anew=anew):
                item, anew = self._items.instead_of(item, data, pieces), False
        calls.touch(item, pieces)
        if "part" in data:
            texts.part(item, data["part"], field, item.part(data, name, pieces, anew=anew), ("part",), pieces)
        fields(data, (), EVENT, pieces, ("part",))

    def _other(self, kind: str, data: dict[str, Any], pieces: list[Piece]) -> None:
        if kind == "response.output_text.annotation.added":
            item = self._items.of_event(data, pieces)
            calls.touch(item, pieces)
            at, number = item.part(data, "content_index", pieces), data.get("annotation_index")
            texts.citations(
                item,
                data.get("annotation"),
                at,
                ("annotation",),
                pieces,
                number if type(number) is int else -1,
            )
            fields(data, (), EVENT, pieces, ("annotation",))
        elif kind == "error":
            inner = data.get("error")
            if isinstance(inner, dict):
                failure(inner, ("error",), pieces)
                fields(data, (), EVENT, pieces, ("error",))
            else:
                failure(data, (), pieces)
        else:
            if kind not in PROGRESS:
                self.unknown = of_no_kind(data, f"event type {kind!r}"[:200])
            if "output_index" in data or "item_id" in data:
                calls.touch(self._items.of_event(data, pieces), pieces)
            fields(data, (), EVENT, pieces)

    def _body(self, data: dict[str, Any]) -> list[Piece]:
        pieces: list[Piece] = []
        error = data.get("error")
        if "output" not in data and isinstance(error, dict):
            failure(error, ("error",), pieces)
            show({key: value for key, value in data.items() if key != "error"}, (), pieces)
            return pieces
        self._ended = True
        self._note(data)
        self.unknown = read_response(data, (), self._items, self._shown, pieces, last=True)
        if "output" not in data:
            self.unknown = no_answer(data, pieces) or self.unknown
        end_items(self._items.all, pieces)
        return pieces


def _no_text(data: dict[str, Any], field: str, pieces: list[Piece]) -> None:
    """An event with something else where its text should stand: some clients raise, some append the number that it is."""
    fields(data, (), EVENT, pieces)
    if data.get(field) is not None:
        pieces.append(leaves_as((field,), ""))
