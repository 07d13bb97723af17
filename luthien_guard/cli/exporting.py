"""Rows as a file: JSON lines, which is a store again (`--store jsonl:///FILE`), or Parquet."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from tempfile import mkstemp
from typing import Any, BinaryIO, Final

from luthien_guard.errors import ConfigError
from luthien_guard.sinks.jsonl.lines import line_of
from luthien_guard.store import CallFilter, Row, Store, id_at, plain

__all__ = ["Exported", "exported", "writer_for"]

_PAGE: Final = 1000  # rows
_LINES: Final = 10_000
_ARROW: Final = {"seq": "int64", "at": "float64"}  # the others are strings

Writer = Callable[[BinaryIO, Iterator[Row]], None]


def writer_for(file: Path) -> Writer:
    """What writes rows into a file of that name. Raises ConfigError where it may not or cannot."""
    if os.path.lexists(file):
        raise ConfigError(f"{file} is there already")
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder")
    return _parquet() if file.suffix == ".parquet" else _jsonl


@dataclass(frozen=True, slots=True)
class Exported:
    """How many rows were written. `seen`: the position up to which every row was looked at; what came later may be in
    the file or not, and `prune(seen=...)` keeps it."""

    rows: int
    seen: int


def exported(
    store: Store, file: Path, write: Writer, before: float | None, tell: Callable[[int], None]
) -> Exported:
    """Write the rows of the calls that `prune` takes (`before`: Unix seconds; None: all rows). `tell` hears how many
    rows were looked at. The file is for this user alone, and appears when it is whole and on disk. Raises OSError, also
    for a file of that name that appeared meanwhile, and SinkError."""
    seen = store.tail()[0]  # first: who is old is asked later
    rows = _Counted(_rows(store, before, tell))
    # a name of its own: whoever may write into this folder could have left a link under one that can be guessed
    descriptor, fresh = mkstemp(prefix=".export-", suffix=".part", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            write(out, rows)
            out.flush()
            os.fsync(out.fileno())
        _publish(Path(fresh), file)
    except OSError as error:  # an error while writing does not say where
        error.filename = str(file)
        raise
    finally:
        Path(fresh).unlink(missing_ok=True)
    return Exported(rows.count, seen)


def _publish(fresh: Path, file: Path) -> None:
    """Under its name, unless something is there by now. Raises OSError."""
    try:
        os.link(fresh, file)  # a rename would replace what is there
    except FileExistsError:
        raise
    except OSError:  # a file system without links: take the name first
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        fresh.replace(file)


class _Counted:
    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row = next(self._rows)
        self.count += 1
        return row


def _rows(store: Store, before: float | None, tell: Callable[[int], None]) -> Iterator[Row]:
    """In the order in which they were stored. A call is wanted whole: `prune` deletes it whole."""
    old = None if before is None else _Old(store, before)
    position, looked = 0, 0
    while True:
        position, rows = store.tail(position, limit=_PAGE)
        if not rows:
            return
        yield from (row for row in rows if old is None or row.call_id in old)
        looked += len(rows)
        tell(looked)


class _Old:
    """The calls that started before a moment. For nearly all of them their ids say it, also for rows that no line has;
    the others are those of clocks that were set."""

    def __init__(self, store: Store, before: float) -> None:
        self._bound = id_at(before)
        early = _ids(store, CallFilter(until=before, limit=_LINES))
        self._early = set(takewhile(lambda call_id: call_id >= self._bound, early))
        self._late = set(_ids(store, CallFilter(since=before, before=self._bound, limit=_LINES)))

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._early or (call_id < self._bound and call_id not in self._late)


def _ids(store: Store, wanted: CallFilter) -> Iterator[str]:
    """Newest first."""
    while page := store.calls(wanted):
        yield from (call.call_id for call in page)
        wanted = replace(wanted, before=page[-1].call_id)


def _jsonl(out: BinaryIO, rows: Iterator[Row]) -> None:
    out.writelines(map(line_of, rows))


def _parquet() -> Writer:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        writer_of: Any = importlib.import_module("pyarrow.parquet").ParquetWriter
    except ImportError:
        raise ConfigError("Parquet needs the extra: pip install 'luthien-guard[parquet]'") from None
    schema = arrow.schema([(name, _ARROW.get(name, "string")) for name in Row.__slots__])

    def write(out: BinaryIO, rows: Iterator[Row]) -> None:
        with writer_of(out, schema) as writer:
            while batch := [_arrow_of(row) for row in islice(rows, _PAGE)]:
                writer.write_table(arrow.Table.from_pylist(batch, schema=schema))

    return write


def _arrow_of(row: Row) -> dict[str, Any]:
    """Arrow takes no text that is no Unicode, as tampered rows have it."""
    return {name: plain(value) if isinstance(value, str) else value for name, value in asdict(row).items()}
