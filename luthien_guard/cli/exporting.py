"""Rows as a file: JSON lines, which is a store again (`--store jsonl:///FILE`), or Parquet."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import mkstemp
from typing import Any, BinaryIO, Final

from luthien_guard.errors import ConfigError
from luthien_guard.store import CallFilter, Row, Store, plain

__all__ = ["exported", "writer_for"]

_PAGE: Final = 1000
_ARROW: Final = {"seq": "int64", "at": "float64"}  # the others are strings

Writer = Callable[[BinaryIO, Iterator[Row]], None]


def writer_for(file: Path) -> Writer:
    """What writes rows into a file of that name. Raises ConfigError where it may not or cannot."""
    if os.path.lexists(file):
        raise ConfigError(f"{file} is there already")
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder")
    return _parquet() if file.suffix == ".parquet" else _jsonl


def exported(
    store: Store, file: Path, write: Writer, before: float | None, tell: Callable[[int], None]
) -> int:
    """Write the rows of the calls that started before `before` (Unix seconds; None: all rows). `tell` hears how many
    rows were looked at. Returns how many were written. The file is for this user alone, and appears when it is whole
    and on disk. Raises OSError, also for a file of that name that appeared meanwhile, and SinkError."""
    rows = _Counted(_rows(store, before, tell))
    # a name of its own: whoever may write into this folder could have left a link under one that can be guessed
    descriptor, fresh = mkstemp(prefix=".export-", suffix=".part", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            write(out, rows)
            out.flush()
            os.fsync(out.fileno())
        _publish(Path(fresh), file)
    finally:
        Path(fresh).unlink(missing_ok=True)
    return rows.count


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
    wanted = None if before is None else _started(store, before)
    position, looked = 0, 0
    while True:
        position, rows = store.tail(position, limit=_PAGE)
        if not rows:
            return
        yield from (row for row in rows if wanted is None or row.call_id in wanted)
        looked += len(rows)
        tell(looked)


def _started(store: Store, before: float) -> set[str]:
    found: set[str] = set()
    last: str | None = None
    while page := store.calls(CallFilter(until=before, before=last, limit=10 * _PAGE)):
        found.update(call.call_id for call in page)
        last = page[-1].call_id
    return found


def _jsonl(out: BinaryIO, rows: Iterator[Row]) -> None:
    out.writelines(json.dumps(asdict(row), separators=(",", ":")).encode() + b"\n" for row in rows)


def _parquet() -> Writer:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        writer_of: Any = importlib.import_module("pyarrow.parquet").ParquetWriter
    except ImportError:
        raise ConfigError("Parquet needs the extra: pip install 'luthien-guard[parquet]'") from None
    schema = arrow.schema([(name, _ARROW.get(name, "string")) for name in Row.__slots__])

    def write(out: BinaryIO, rows: Iterator[Row]) -> None:
        with writer_of(out, schema) as writer:
            while batch := [_arrow_of(row) for row, _ in zip(rows, range(_PAGE), strict=False)]:
                writer.write_table(arrow.Table.from_pylist(batch, schema=schema))

    return write


def _arrow_of(row: Row) -> dict[str, Any]:
    """Arrow takes no text that is no Unicode, as tampered rows have it."""
    return {name: plain(value) if isinstance(value, str) else value for name, value in asdict(row).items()}
