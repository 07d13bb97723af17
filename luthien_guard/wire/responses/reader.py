"""Reads Responses, streamed or whole: a body is what `response.completed` carries.

Everything is said up to four times: as deltas, as `*.done`, as `output_item.done`, and in the response at the end. The
first time is the text; a repeat that says the same is an echo; one that says something else is a text of its own.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import Channel, Chunk
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.responses.items import ENVELOPE, call_of, texts_of
from luthien_guard.wire.strings import strings_in

__all__ = ["ResponsesReader"]

#: Text deltas: which text of the item, and its channel; and the index that tells its parts apart.
_DELTAS: Final[dict[str, tuple[str, Channel, str]]] = {
    "response.output_text.delta": ("text", "content", "content_index"),
    "response.refusal.delta": ("refusal", "refusal", "content_index"),
    "response.reasoning_text.delta": ("reasoning", "reasoning", "content_index"),
    "response.reasoning_summary_text.delta": ("summary", "reasoning", "summary_index"),
    "response.reasoning_summary.delta": ("summary", "reasoning", "summary_index"),
    "response.reasoning.delta": ("reasoning", "reasoning", "content_index"),
    "response.audio.transcript.delta": ("audio", "audio_transcript", "content_index"),
}
#: Their repeats, and the field of the repeat.
_DONES: Final[dict[str, tuple[str, Channel, str, str]]] = {
    "response.output_text.done": ("text", "content", "content_index", "text"),
    "response.refusal.done": ("refusal", "refusal", "content_index", "refusal"),
    "response.reasoning_text.done": ("reasoning", "reasoning", "content_index", "text"),
    "response.reasoning_summary_text.done": ("summary", "reasoning", "summary_index", "text"),
    "response.reasoning_summary.done": ("summary", "reasoning", "summary_index", "text"),
    "response.reasoning.done": ("reasoning", "reasoning", "content_index", "text"),
}
#: Fragments of calls, and the field of their repeat.
_FRAGMENTS: Final[dict[str, str]] = {
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.mcp_call_arguments": "arguments",
    "response.mcp_call.arguments": "arguments",
    "response.code_interpreter_call_code": "code",
    "response.code_interpreter_call.code": "code",
    "response.shell_call_command": "command",
    "response.apply_patch_call_operation_diff": "diff",
}
_WHOLE: Final = frozenset(
    {"response.created", "response.in_progress", "response.queued", "response.completed", "response.incomplete",
     "response.failed", "response.cancelled", "response.done"}
)  # fmt: skip
_LAST: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)
#: Events that say where a call of the provider's is.
_PROGRESS: Final = ("in_progress", "searching", "completed", "failed", "generating", "interpreting", "partial_image")
_EVENT: Final = frozenset({"type", "sequence_number", "output_index", "content_index", "summary_index", "item_id", "delta"})
_INDICES: Final = frozenset({"sequence_number", "output_index", "content_index", "summary_index", "annotation_index", "command_index"})


class _Item:
    """What is known of one output item."""

    __slots__ = ("call", "signed", "texts")

    def __init__(self) -> None:
        self.texts: dict[Any, Block] = {}
        self.call: Block | None = None
        self.signed = False


class ResponsesReader:
    """Implements `Reader`, for streams and bodies."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._items: dict[Any, _Item] = {}
        self._seen: set[str] = set()  # strings that were shown once already
        self._open: list[Block] = []
        self._ended = False
        self._made = 0

    def read(self, chunk: Chunk) -> list[Piece]:
        data = chunk.data
        pieces: list[Piece] = []
        self.unknown = ""
        if chunk.kind == "done":
            return pieces
        if type(data) is not dict:
            self.unknown = "an event that is no object" if chunk.raw.strip() else ""
            self._opaque(data, (), pieces)
        elif chunk.kind == "body":
            self._body(data, pieces)
        else:
            self._event(data, pieces)
        return pieces

    def close(self) -> list[Piece]:
        return self._stops(self._open, closed=self._ended)

    def _stops(self, blocks: list[Block], *, closed: bool, owner: Path = ()) -> list[Piece]:
        found = []
        for block in list(blocks):
            if block in self._open:
                self._open.remove(block)
                block.closed = closed
                found.append(Piece(PieceKind.STOP, block=block, owner=owner))
        return found

    # -- events --------------------------------------------------------------------------------------------------------

    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        kind = data.get("type")
        if type(kind) is not str:
            self.unknown = "an event without a type"
            self._opaque(data, (), pieces)
            return
        delta = _DELTAS.get(kind)
        if delta is not None:
            self._delta(data, delta, pieces)
        elif kind in _DONES:
            self._done(data, *_DONES[kind], pieces)
        elif kind in _WHOLE:
            self._whole(kind, data, pieces)
        elif kind == "response.output_item.added" or kind == "response.output_item.done":
            self._item_event(data, pieces, done=kind.endswith("done"))
        elif kind.endswith(("_part.added", "_part.done")):
            self._part(data, pieces)
        elif kind.rpartition(".")[0] in _FRAGMENTS:
            self._fragment(kind, data, pieces)
        elif kind == "response.output_text.annotation.added":
            self._citation(data.get("annotation"), ("annotation",), pieces)
            self._rest(data, {"annotation"}, pieces)
        elif kind == "error":
            self._error(data, pieces)
        else:
            self._other(kind, data, pieces)

    def _delta(self, data: dict[str, Any], known: tuple[str, Channel, str], pieces: list[Piece]) -> None:
        key, channel, index = known
        text = data.get("delta")
        if type(text) is str:
            if text:
                item = self._item(data)
                block = item.texts.get((key, _plain(data.get(index))))
                if block is None or block.closed:
                    block = self._new_text(item, (key, _plain(data.get(index))), channel, pieces)
                block.source.append(text)
                pieces.append(Piece(PieceKind.DELTA, block=block, path=("delta",), text=text))
                if data.get("logprobs"):
                    self._logprobs(data["logprobs"], ("logprobs",), block, text, pieces)
            self._rest(data, {"delta", "logprobs"}, pieces)
        else:
            self._rest(data, {"logprobs"}, pieces)
            self._opaque(data.get("logprobs"), ("logprobs",), pieces)

    def _done(self, data: dict[str, Any], key: str, channel: Channel, index: str, field: str, pieces: list[Piece]) -> None:
        text = data.get(field)
        if isinstance(text, str):
            item = self._item(data)
            self._say(item, (key, _plain(data.get(index))), channel, (field,), text, pieces)
            block = item.texts.get((key, _plain(data.get(index))))
            if data.get("logprobs") and block is not None:
                self._logprobs(data["logprobs"], ("logprobs",), block, text, pieces)
            self._rest(data, {field, "logprobs"}, pieces)
        else:
            self._rest(data, set(), pieces)

    def _fragment(self, kind: str, data: dict[str, Any], pieces: list[Piece]) -> None:
        prefix, _, step = kind.rpartition(".")
        field = "delta" if step == "delta" else _FRAGMENTS[prefix]
        text = data.get(field)
        item = self._item(data)
        call = item.call
        if call is None or (call.closed and step == "delta"):
            before, call = call, Block("call", index=self._number())
            call.codec = {}
            if before is not None:  # a client that merges by item takes it for the rest of the closed one
                call.id, call.name, call.prefix = before.id, before.name, before.text
            item.call = call
            self._open.append(call)
            pieces.append(Piece(PieceKind.START, block=call))
        pieces.append(Piece(PieceKind.DERIVED, block=call, value="entry"))
        name = data.get("name")
        if isinstance(name, str) and name and name == call.name:
            pieces.append(Piece(PieceKind.DERIVED, block=call, path=("name",), text=name, value="name"))
        if isinstance(text, str):
            if step == "delta":
                call.source.append(text)
                pieces.append(Piece(PieceKind.DELTA, block=call, path=(field,), text=text))
            elif text:
                self._repeat_call(call, text, (field,), pieces, is_json=False)
        known = {field} if isinstance(text, str) else set[str]()
        known |= {"name"} if name == call.name else set()
        self._rest(data, known, pieces)

    def _repeat_call(self, call: Block, text: str, path: Path, pieces: list[Piece], *, is_json: bool, owner: Path = ()) -> None:
        """Arguments once more: an echo, the first that is heard of them, or something else."""
        if text == call.text:
            pieces.append(Piece(PieceKind.ECHO, block=call, path=path, text=text, is_json=is_json, owner=owner))
        elif not call.source and not call.closed:
            call.source.append(text)
            pieces.append(Piece(PieceKind.DELTA, block=call, path=path, text=text, is_json=is_json, owner=owner))
        else:
            other = Block("call", index=self._number(), id=call.id, name=call.name, tool_kind=call.tool_kind)
            other.codec = {}
            self._whole_call(other, text, path, pieces, is_json=is_json, owner=owner)

    def _whole_call(self, call: Block, text: str, path: Path, pieces: list[Piece], *, is_json: bool, owner: Path) -> None:
        pieces.append(Piece(PieceKind.START, block=call, owner=owner))
        call.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=call, path=path, text=text, is_json=is_json, owner=owner))
        call.closed = True
        pieces.append(Piece(PieceKind.STOP, block=call, owner=owner))

    def _part(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        part = data.get("part")
        item = self._item(data)
        if not isinstance(part, dict):
            self._rest(data, set(), pieces)
            return
        field = "summary" if "summary_index" in data else "content"
        index = _plain(data.get("summary_index" if field == "summary" else "content_index"))
        holder = {field: [part]}
        self._texts(item, holder, (), pieces, at=index, moved=(field, 0))
        self._rest(data, {"part"}, pieces)

    def _item_event(self, data: dict[str, Any], pieces: list[Piece], *, done: bool) -> None:
        raw = data.get("item")
        item = self._item(data)
        if isinstance(raw, dict):
            self._read_item(item, raw, ("item",), pieces, owner=())
        else:
            self._opaque(raw, ("item",), pieces)
        self._rest(data, {"item"}, pieces)
        if done:
            pieces += self._stops(_blocks(item), closed=True)

    def _whole(self, kind: str, data: dict[str, Any], pieces: list[Piece]) -> None:
        response = data.get("response")
        if isinstance(response, dict):
            self._response(response, ("response",), pieces, last=kind in _LAST)
        else:
            self._opaque(response, ("response",), pieces)
        self._rest(data, {"response"}, pieces)
        if kind in _LAST:
            self._ended = True
            pieces += self._stops(self._open, closed=True)
            pieces.append(Piece(PieceKind.END))

    def _other(self, kind: str, data: dict[str, Any], pieces: list[Piece]) -> None:
        """Progress of a provider's own call; audio; whatever is new."""
        step = kind.rpartition(".")[2]
        known = "_call." in kind or kind.startswith(("response.mcp_list_tools.", "response.audio"))
        if not (known and (step in _PROGRESS or kind.startswith("response.audio"))):
            self.unknown = f"event type {kind!r}"[:200]
        item = self._items.get(_plain(data.get("output_index")))
        if item is not None and item.call is not None:
            pieces.append(Piece(PieceKind.DERIVED, block=item.call, value="entry"))
        self._rest(data, set(), pieces)

    def _error(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        error = data.get("error") if isinstance(data.get("error"), dict) else data
        message = error.get("message") if isinstance(error, dict) else None
        pieces.append(Piece(PieceKind.FAILED, text=message if isinstance(message, str) else "an error without a message"))
        self._rest(data, set(), pieces)

    # -- responses and items -------------------------------------------------------------------------------------------

    def _body(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        if "output" not in data and isinstance(data.get("error"), dict):
            self._error(data, pieces)
            return
        self._ended = True
        self._response(data, (), pieces, last=True)
        pieces += self._stops(self._open, closed=True)

    def _response(self, response: dict[str, Any], path: Path, pieces: list[Piece], *, last: bool) -> None:
        for key in ("id", "model"):
            if isinstance(response.get(key), str):
                setattr(self, key, response[key])
        output = response.get("output")
        for at, raw in enumerate(output if isinstance(output, list) else ()):
            place = (*path, "output", at)
            if isinstance(raw, dict):
                item = self._items.setdefault(at, _Item())
                self._read_item(item, raw, place, pieces, owner=place)
                if last:
                    pieces += self._stops(_blocks(item), closed=True, owner=place)
            else:
                self._opaque(raw, place, pieces)
        known = {"output"} if isinstance(output, list) else set[str]()
        if isinstance(response.get("output_text"), str):
            known.add("output_text")
            self._all_text(response["output_text"], (*path, "output_text"), pieces)
        usage = response.get("usage")
        if usage is not None:
            pieces.append(Piece(PieceKind.USAGE, path=(*path, "usage"), value=usage))
        error = response.get("error")
        if isinstance(error, dict) and error:
            message = error.get("message")
            pieces.append(Piece(PieceKind.FAILED, text=message if isinstance(message, str) else "an error"))
        if last and isinstance(response.get("status"), str):
            pieces.append(Piece(PieceKind.FINISH, path=(*path, "status"), text=response["status"]))
        self._fields(response, path, known, pieces)

    def _all_text(self, text: str, path: Path, pieces: list[Piece]) -> None:
        """A convenience of some providers: the content of all items once more."""
        blocks = [block for item in self._items.values() for block in item.texts.values() if block.channel == "content"]
        same = next((block for block in blocks if block.text == text), None)
        if same is not None and text:
            pieces.append(Piece(PieceKind.ECHO, block=same, path=path, text=text))
        elif text:
            self._text_of_its_own("content", True, path, text, pieces)

    def _read_item(self, item: _Item, raw: dict[str, Any], path: Path, pieces: list[Piece], *, owner: Path) -> None:
        call = call_of(raw, path)
        if call is not None:
            self._read_call(item, raw, path, pieces, owner)
            return
        item.signed = item.signed or bool(raw.get("encrypted_content"))
        self._texts(item, raw, path, pieces)

    def _texts(
        self, item: _Item, raw: dict[str, Any], path: Path, pieces: list[Piece], *, at: Any = None, moved: Path | None = None
    ) -> None:
        """The texts of an item, or of one part of it: `moved` is then where the part stands in `raw`, and `at` its
        index in the item."""
        known: dict[Any, set[str]] = {}
        for said in texts_of(raw, path):
            key: tuple[str, Any] = said.key
            place, part = said.path, said.part
            if moved is not None:
                key, place, part = (key[0], at), ("part", *place[2:]), ("part",)
            self._say(item, key, said.channel, place, said.text, pieces)
            block = item.texts.get(key)
            value = _at(raw, said.part[len(path) :])
            known.setdefault(said.part[len(path) :], set()).update({str(said.path[-1]), "annotations", "logprobs"})
            if value.get("annotations"):
                self._citation(value["annotations"], (*part, "annotations"), pieces)
            if value.get("logprobs"):
                self._logprobs(value["logprobs"], (*part, "logprobs"), block, said.text, pieces)
        for field, value in raw.items():
            if field not in ("content", "summary") or not isinstance(value, list):
                self._fields({field: value}, path, set(), pieces)
                continue
            for number, inner in enumerate(value):
                place = ("part",) if moved is not None else (*path, field, number)
                if isinstance(inner, dict):
                    self._fields(inner, place, known.get((field, number), set()), pieces)
                else:
                    self._opaque(inner, place, pieces)

    def _read_call(self, item: _Item, raw: dict[str, Any], path: Path, pieces: list[Piece], owner: Path) -> None:
        call = call_of(raw, path)
        assert call is not None
        id = raw.get("call_id") or raw.get("id")
        block = item.call
        if block is None:
            block = item.call = Block("call", index=self._number(), tool_kind=call.kind)
            block.codec = {}
            block.id, block.name = id if isinstance(id, str) else "", call.name
            self._open.append(block)
            pieces.append(Piece(PieceKind.START, block=block, owner=owner))
        elif not block.name:
            block.name, block.tool_kind = call.name, call.kind
            block.id = block.id or (id if isinstance(id, str) else "")
        elif block.name != call.name:
            # the same item under another name: a call that nobody has judged yet
            block = Block("call", index=self._number(), id=block.id, name=call.name, tool_kind=call.kind)
            block.codec = {}
            pieces.append(Piece(PieceKind.DERIVED, block=item.call, value="entry", owner=owner))
            pieces.append(Piece(PieceKind.DERIVED, block=block, path=(*path, "name"), text=call.name, value="name"))
            self._whole_call(block, call.arguments, call.path, pieces, is_json=call.is_json, owner=owner)
            self._fields(raw, path, {"name", *call.fields}, pieces)
            return
        pieces.append(Piece(PieceKind.DERIVED, block=block, value="entry", owner=owner))
        if isinstance(raw.get("name"), str):
            pieces.append(
                Piece(PieceKind.DERIVED, block=block, path=(*path, "name"), text=call.name, value="name", owner=owner)
            )
        if call.arguments:
            self._repeat_call(block, call.arguments, call.path, pieces, is_json=call.is_json, owner=owner)
        known = {*call.fields, "name"} if isinstance(raw.get("name"), str) else set(call.fields)
        several = call.is_json and len([field for field in call.fields if raw.get(field)]) > 1
        self._fields(raw, path, {"name"} if several and isinstance(raw.get("name"), str) else known, pieces)

    # -- texts ---------------------------------------------------------------------------------------------------------

    def _item(self, data: dict[str, Any]) -> _Item:
        index = _plain(data.get("output_index"))
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item()
        return item

    def _number(self) -> int:
        self._made += 1
        return self._made - 1

    def _new_text(self, item: _Item, key: Any, channel: Channel, pieces: list[Piece]) -> Block:
        writable = not (channel == "reasoning" and item.signed)
        block = Block("text", index=self._number(), channel=channel, writable=writable)
        item.texts[key] = block
        self._open.append(block)
        pieces.append(Piece(PieceKind.START, block=block))
        return block

    def _say(self, item: _Item, key: Any, channel: Channel, path: Path, text: str, pieces: list[Piece]) -> None:
        """A text as a whole: the first time it is heard, an echo of it, or something else."""
        if not text:
            return
        block = item.texts.get(key)
        if block is None:
            block = self._new_text(item, key, channel, pieces)
            block.source.append(text)
            pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))
        elif block.text == text:
            pieces.append(Piece(PieceKind.ECHO, block=block, path=path, text=text))
        else:
            self._text_of_its_own(channel, block.writable, path, text, pieces)

    def _text_of_its_own(self, channel: Channel, writable: bool, path: Path, text: str, pieces: list[Piece]) -> None:
        block = Block("text", index=self._number(), channel=channel, writable=writable)
        block.source.append(text)
        block.closed = True
        pieces.append(Piece(PieceKind.START, block=block))
        pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))
        pieces.append(Piece(PieceKind.STOP, block=block))

    def _citation(self, value: Any, path: Path, pieces: list[Piece]) -> None:
        for place, text in strings_in(value, path):
            if not (place[-1] in ENVELOPE and is_identifier(text)) and text not in self._seen:
                self._seen.add(text)
                self._text_of_its_own("citation", False, place, text, pieces)

    def _logprobs(self, value: Any, path: Path, block: Block | None, text: str, pieces: list[Piece]) -> None:
        """Token by token the same text once more; the alternatives are text that nobody else shows."""
        tokens = value if isinstance(value, list) else []
        plain = all(isinstance(token, dict) for token in tokens)
        same = plain and "".join(str(token.get("token", "")) for token in tokens) == text
        if block is not None and same:
            pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, value="logprobs"))
            value = [{key: one for key, one in token.items() if key not in ("token", "bytes")} for token in tokens]
        self._opaque(value, path, pieces)

    # -- everything else -----------------------------------------------------------------------------------------------

    def _rest(self, data: dict[str, Any], known: set[str], pieces: list[Piece]) -> None:
        """What an event says besides its text."""
        for key, value in data.items():
            if key in _INDICES and type(value) is int:
                continue
            if key == "item_id" or key == "type" or key == "obfuscation":
                if type(value) is str and is_identifier(value):
                    continue
            elif key in known or (key == "delta" and "delta" in known):
                continue
            self._opaque({key: value}, (), pieces)

    def _fields(self, raw: dict[str, Any], path: Path, known: set[str], pieces: list[Piece]) -> None:
        for key, value in raw.items():
            if key in known:
                continue
            if key in ENVELOPE and isinstance(value, str) and is_identifier(value):
                continue
            self._opaque({key: value}, path, pieces)

    def _opaque(self, value: Any, path: Path, pieces: list[Piece]) -> None:
        """Strings that the format does not model. Instructions and tools come back in every response object: what
        was shown once is not shown again."""
        for place, text in strings_in(value, path):
            if text not in self._seen:
                self._seen.add(text)
                pieces.append(Piece(PieceKind.OPAQUE, path=place, text=text))


def _blocks(item: _Item) -> list[Block]:
    return [*item.texts.values(), *([item.call] if item.call is not None else [])]


def _plain(index: Any) -> Any:
    """An index as a key, whatever upstream put there."""
    return index if isinstance(index, (int, type(None))) else str(index)


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[key]
    return data
