"""Response objects: whole bodies, and what the first and the last events of a stream carry."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.indices import leaves_as, no_list, strings_only
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.responses import calls, texts
from luthien_guard.wire.responses.items import Item, Items
from luthien_guard.wire.responses.previews import settle_previews
from luthien_guard.wire.responses.shown import Shown, fields, show
from luthien_guard.wire.responses.tables import ITEM, OF_PARTS, RESPONSE

__all__ = ["end_items", "failure", "read_item", "read_response"]


def read_response(
    response: dict[str, Any],
    path: Path,
    items: Items,
    shown: Shown,
    pieces: list[Piece],
    *,
    last: bool,
) -> str:
    """Everything in a response object; `last`: nothing comes after it. Gives "" or why a part of it is of no kind that
    the format knows."""
    output, unknown = response.get("output"), ""
    if output is not None and not isinstance(output, list):
        unknown = no_list(output, (*path, "output"), [], pieces)
    known = {"output"}
    taken: set[int] = set()
    items.joined.restart()
    for at, raw in enumerate(output if isinstance(output, list) else ()):
        place = (*path, "output", at)
        if isinstance(raw, dict):
            item = items.of_output(raw, at, taken)
            unknown = read_item(item, raw, place, pieces, owner=place, final=last) or unknown
            if last:
                end_items([item], pieces, owner=place)
        else:
            show(raw, place, pieces)
    if isinstance(response.get("output_text"), str):
        known.add("output_text")
        _all_text(response["output_text"], items, (*path, "output_text"), pieces)
    if response.get("usage") is not None:
        pieces.append(Piece(PieceKind.USAGE, path=(*path, "usage"), value=response["usage"]))
    if isinstance(response.get("error"), dict) and response["error"]:
        known.add("error")
        failure(response["error"], (*path, "error"), pieces)
    fields(response, path, RESPONSE, pieces, known, shown)
    if last and isinstance(response.get("status"), str):
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        pieces.append(Piece(PieceKind.FINISH, text=reason if isinstance(reason, str) else response["status"]))
    return unknown


def failure(error: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
    """An error object."""
    message = error.get("message")
    known = ("message",) if isinstance(message, str) else ()
    text = message if isinstance(message, str) and message else "an error without a message"
    pieces.append(Piece(PieceKind.FAILED, path=(*path, "message"), text=text))
    envelope = {"type": "", "code": "", "param": "", "item_id": ""}
    fields(error, path, envelope, pieces, known)


def read_item(
    item: Item, raw: dict[str, Any], path: Path, pieces: list[Piece], *, owner: Path, final: bool
) -> str:
    """An output item, in an event or in a response. `owner` is the element that goes with its call. Gives "" or why a
    part of it is of no kind that the format knows."""
    unknown = ""
    kind = raw.get("type")
    strings_only(raw, "type", path, DELETE, pieces)
    item.kind = item.kind or (kind if isinstance(kind, str) else "")
    known: tuple[str, ...] = ()
    if calls.is_call_item(raw):
        call = calls.call_of(raw, path)
        named = [key for key in ("name", "type") if isinstance(raw.get(key), str)]
        known = (*call.fields, *(key for key in named if key == "name" or is_identifier(raw[key])))
        calls.read_call(item, raw, path, pieces, owner, final=final)
    else:
        calls.touch(item, pieces, owner)
        item.signed = item.signed or bool(raw.get("encrypted_content"))
    for field in ("content", "summary"):
        parts = raw.get(field)
        if isinstance(parts, list) and field not in known:
            known = (*known, field)
            for at, part in enumerate(parts):
                texts.part(item, part, field, at, (*path, field, at), pieces)
        elif isinstance(parts, dict) and field not in known:
            unknown = f"a {field} that is no list"
            if kind in OF_PARTS:  # JavaScript finds an element 0 in {"0": ...}, too
                pieces.append(leaves_as((*path, field), []))
    fields(raw, path, ITEM, pieces, known, item.shown)
    return unknown


def end_items(ended: list[Item], pieces: list[Piece], owner: Path = (), *, closed: bool = True) -> None:
    """STOP what is open in these items."""
    for item in ended:
        settle_previews(item, pieces, owner)
        for block in item.blocks:
            if not block.closed:
                block.closed = closed
                pieces.append(Piece(PieceKind.STOP, block=block, owner=owner if block.kind == "call" else ()))
        item.ended = True


def _all_text(text: str, items: Items, path: Path, pieces: list[Piece]) -> None:
    """`output_text`: what some providers and SDKs repeat of all contents at once."""
    blocks = [block for item in items.all for block in item.texts.values() if block.channel == "content"]
    if not text:
        return
    if len(blocks) == 1 and blocks[0].text == text:
        pieces.append(Piece(PieceKind.ECHO, block=blocks[0], path=path, text=text))
    elif _are_joined(blocks) and text == "".join(block.text for block in blocks):
        pieces.append(Piece(PieceKind.DERIVED, block=blocks[0], path=path, text=text, value=("all", blocks)))
    else:
        texts.own_text("content", text, path, pieces, writable=True)


def _are_joined(blocks: list[Block]) -> bool:
    return all(after.follows is before for before, after in pairwise(blocks))
