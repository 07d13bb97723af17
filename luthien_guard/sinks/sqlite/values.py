"""Rows and lines as the file holds them. SQLite keeps any value in any column, and who tampers puts it there: one value
that nobody ever wrote must not keep others from being read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from luthien_guard.store import CALL_COLUMNS, Call, Row, usage_of

__all__ = ["call_of", "line_of", "readable", "row_of"]

_NONE: Final = type(None)
#: The types of a row that was written.
_WRITTEN: Final = frozenset((str, int, float, str, policy, str, str, str) for policy in (str, _NONE))
_NEVER: Final = "\udcff"  # a lone surrogate: no text of any store has one
_FAR: Final = 1e12  # seconds


def readable(raw: bytes) -> str:
    """Text that is no UTF-8 as something that equals no text that was ever written."""
    return raw.decode(errors="surrogateescape")


def row_of(columns: Sequence[Any]) -> Row:
    """A row of `conversation_events`. What cannot have been written is something else than was written, of the right type:
    so its hash does not fit."""
    if tuple(map(type, columns)) in _WRITTEN and -_FAR < columns[2] < _FAR:
        return Row(*columns)
    call_id, seq, at, event_type, policy, *texts = columns
    number = seq if type(seq) is int else -1
    return Row(
        _text(call_id), number, _moment(at), _text(event_type), _maybe(_text, policy), *map(_text, texts)
    )


def line_of(columns: Sequence[Any]) -> Call:
    """A line of `conversation_calls`, in the same way."""
    named = zip(CALL_COLUMNS, columns, strict=True)
    return call_of({name: _maybe(_KINDS.get(name, _text), value) for name, value in named})


def call_of(columns: Mapping[str, Any]) -> Call:
    """The same from columns that are of their types. `usage` may be JSON."""
    stream, usage = columns["stream"], columns["usage"]
    read: dict[str, Any] = {
        **columns,
        "stream": None if stream is None else bool(stream),
        "usage": usage_of(usage) if isinstance(usage, str) else usage,
    }
    return Call(**read)


def _maybe(kind: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else kind(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{_NEVER}{value!r}"


def _moment(value: Any) -> float:
    """The beginning of time is no moment that was ever written."""
    return value if type(value) is float and -_FAR < value < _FAR else 0.0


def _stream(value: Any) -> int:
    return value if type(value) is int else 0


_KINDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "started_at": _moment,
    "ended_at": _moment,
    "stream": _stream,
}
