"""Writes a stream of Responses events: raw where nothing was decided, patched where something was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.events import Chunk
from luthien_guard.wire.format import Block, Path, PieceKind, ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.responses.body import StandIns
from luthien_guard.wire.responses.changes import NO_UNICODE, changes_of, gone, illegal
from luthien_guard.wire.responses.grammar import check
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.responses.listing import ANNOUNCES, Listing
from luthien_guard.wire.responses.made import blank_response, message_events, unicode, usage_of
from luthien_guard.wire.responses.sent import Sent
from luthien_guard.wire.responses.splice import applied, delta_spliced, spliced
from luthien_guard.wire.responses.starts import deltas, started
from luthien_guard.wire.sse import canonical

__all__ = ["StreamWriter"]

Written = tuple[bytes, "int | None"]
DELTA: Final = PieceKind.DELTA  # members of enums are slow to look up


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self._stand_ins = StandIns(call_id)
        self._sent = Sent()
        self._next = 0  # sequence number
        self._counting = False  # something was put in or left out: numbers are ours from here on
        self._gone: set[int] = set()  # indices of removed items
        self._listing = Listing()
        self._unsaid: list[Written] = []  # what was written before something illegal: it leaves with the end

    @property
    def finished(self) -> bool:
        return self._sent.ended

    def write(self, chunks: Sequence[ReadChunk]) -> list[Written]:
        out: list[Written] = []
        try:
            for read in chunks:
                chunk = read.chunk
                if chunk.kind != "data":
                    if chunk.raw:
                        out.append((chunk.raw, read.source))
                elif (short := self._delta(read, chunk)) is not None:
                    out.append(short)
                else:
                    self._event(read, chunk.data, out)
        except (IllegalOutput, UnicodeEncodeError) as error:
            self._unsaid = out
            raise (error if isinstance(error, IllegalOutput) else illegal(NO_UNICODE)) from None
        return out

    def _delta(self, read: ReadChunk, chunk: Chunk) -> Written | None:
        """One more delta that is no more than that, untouched or with another text: nearly all events are."""
        pieces = read.pieces
        if len(pieces) != 1 or read.source is None or self._counting:
            return None
        piece = pieces[0]
        block = piece.block
        if piece.kind is not DELTA or piece.path != ("delta",) or block is None or block.removed:
            return None
        out, raw, data = piece.out, chunk.raw, chunk.data
        if out is not None:
            changed = delta_spliced(chunk, piece.text, out)
            if changed is None:
                return None
            raw = changed
        self._sent.delta(data["type"], data, piece.text if out is None else out)
        number = data.get("sequence_number")
        if type(number) is int:
            self._next = number + 1
        return raw, read.source if out is None else None

    def _event(self, read: ReadChunk, data: Any, out: list[Written]) -> None:
        if type(data) is not dict:
            if read.source is None:
                check(data, None, self._sent)
            out.append((read.chunk.raw, read.source))
            return
        call = gone(read.pieces)
        if call is not None:
            self._remove(call, out)
            return
        if any(
            p.kind is PieceKind.DERIVED and p.value[0] == "preview" and _changed(p.block) for p in read.pieces
        ):
            self._counting = True
            return
        changes = changes_of(read.pieces, self._stand_ins)
        starts = started(read.pieces, changes)
        placed = self._place(data, changes, out)
        numbered = self._number(read, data, changes)
        left = applied(data, changes) if changes else data
        kind = left.get("type")
        if read.source is None:
            check(left, read.chunk.event, self._sent)
        out.append((spliced(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))
        if placed is not None:
            self._listing.keep(*placed)
        self._next += numbered
        self._follow(kind if isinstance(kind, str) else "", left)
        for delta in deltas(starts, left):
            self._counting = True
            out.append((self._made(delta), None))

    def _follow(self, kind: str, data: dict[str, Any]) -> None:
        self._listing.follow(kind, data)
        if (
            kind.endswith(".delta")
            and type(data.get("delta")) is str
            and type(data.get("output_index")) is int
        ):
            self._sent.delta(kind, data, data["delta"])
        else:
            self._sent.follow(kind, data)

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _place(
        self, data: dict[str, Any], changes: dict[Path, Any], out: list[Written]
    ) -> tuple[int, int] | None:
        """The event's output index, as it came and as it leaves; None where it has none."""
        came = changes.get(("output_index",), data.get("output_index"))
        if type(came) is not int or came < 0:
            return None
        announces = changes.get(("type",), data.get("type")) == ANNOUNCES
        index = self._listing.place(came, announces=announces)
        if announces:
            out.extend((raw, None) for raw in self._fill(index))
        changes[("output_index",)] = index
        raw = data.get("output_index")
        if type(raw) is int and raw == index:
            del changes[("output_index",)]
        self._counting = self._counting or index != came  # the next ones are looked at, too
        return came, index

    def _fill(self, index: int) -> list[bytes]:
        """Items that nobody announced have used the places before this one. Something has to be announced there, or
        clients that append would have all others elsewhere; with an empty reasoning they join nothing that follows."""
        made: list[bytes] = []
        for hole in self._listing.missing(index):
            self._counting = True
            item = {"id": f"rs_{self._call_id}_{hole}", "type": "reasoning", "summary": []}
            made += [
                self._made({"type": f"response.output_item.{step}", "output_index": hole, "item": item})
                for step in ("added", "done")
            ]
        return made

    def _number(self, read: ReadChunk, data: dict[str, Any], changes: dict[Path, Any]) -> bool:
        """Whether the event is counted: all that were made are, and those that upstream counts."""
        number = data.get("sequence_number")
        made = read.source is None and number != self._next
        self._counting = self._counting or made
        if type(number) is not int and not made:
            return False
        if not self._counting and type(number) is int:
            self._next = number
        elif number != self._next:
            changes[("sequence_number",)] = self._next
        return True

    # -- removed calls -------------------------------------------------------------------------------------------------

    def _remove(self, call: Block, out: list[Written]) -> None:
        """An event of a removed call: a whole message item leaves in place of the first, the others just go."""
        item: Item = call.codec
        self._counting = True
        if item.index in self._gone:
            return
        message = self._stand_ins(item, call)
        self._gone.add(item.index)
        if message is None:
            self._listing.lose(item.index)
        else:
            index = self._listing.place(item.index, announces=True)
            self._listing.keep(item.index, index)
            out.extend((raw, None) for raw in self._fill(index))
            out.extend((self._made(event), None) for event in message_events(message, index))

    # -- our own words -------------------------------------------------------------------------------------------------

    def _made(self, event: dict[str, Any]) -> bytes:
        event = {**event, "sequence_number": self._next}
        kind = str(event["type"])
        self._next += 1
        self._follow(kind, event)
        return canonical(dumps(event).encode(), kind)

    def _response(self, **changes: Any) -> dict[str, Any]:
        base = self._sent.response or blank_response(f"resp_{self._call_id}", self._model)
        return {**base, **changes}

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        if self._sent.ended:
            return self._last()
        out = [self._last()]
        if not self._sent.begun:  # openai-node throws on whatever comes before response.created
            response = self._response()
            out += [
                self._made({"type": f"response.{each}", "response": response})
                for each in ("created", "in_progress")
            ]
        out += [self._made(event) for event in list(self._sent.closing())]
        index = self._listing.end(self._sent.next_index)
        out += self._fill(index)
        out += [self._made(event) for event in message_events(self._stand_ins.message(message), index)]
        out.append(self._made({"type": "response.completed", "response": self._completed(usage)}))
        return b"".join(out)

    def _completed(self, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        said = (self._sent.response or {}).get("usage")
        known = usage or (said if isinstance(said, Mapping) else None)
        response = self._response(status="completed", output=self._sent.output(), usage=usage_of(known))
        response.update(error=None, incomplete_details=None)
        response.pop("output_text", None)
        if "completed_at" in response:
            response["completed_at"] = response.get("completed_at") or response.get("created_at")
        return response

    def fail(self, status: int, code: str, message: str) -> bytes:
        last = self._last()
        if self._sent.ended:
            return last
        error = {"code": code, "message": unicode(message)}
        response = self._response(status="failed", error=error, output=self._sent.output())
        return last + self._made({"type": "response.failed", "response": response})

    def _last(self) -> bytes:
        unsaid, self._unsaid = self._unsaid, []
        return b"".join(raw for raw, _ in unsaid)


def _changed(block: Block | None) -> bool:
    return block is not None and block.changed
