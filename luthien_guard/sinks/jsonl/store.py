"""The store in a file of lines."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

from luthien_guard.errors import SinkError
from luthien_guard.sinks.jsonl import files
from luthien_guard.sinks.jsonl.filtering import fits, says
from luthien_guard.sinks.jsonl.following import Following
from luthien_guard.sinks.jsonl.index import Index
from luthien_guard.sinks.jsonl.lines import line_of
from luthien_guard.sinks.jsonl.retention import chosen, copy, remember, remembered
from luthien_guard.store import Call, CallFilter, Row, Written, begun, spellings

__all__ = ["JsonlStore"]

_REMEMBERED: Final = 10_000  # calls whose rows are known without a look into the file


class JsonlStore:
    """Implements `Store` over a file of lines. One object writes it, and holds a lock on it from its first write on;
    any number read it."""

    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
        self._lock = threading.RLock()
        self._hashes: OrderedDict[str, dict[int, str]] = OrderedDict()
        self._mended = False
        self._newest = ""  # a call id greater than this one is new, or its rows are in `_hashes`
        self._index = Index(path)
        self._following = Following(path)
        # The id of the youngest call that retention took.
        self._beside = path.with_name(path.name + ".pruned")
        self._pruned = ""

    def open(self) -> None:
        with self._lock, self._told():
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._made()
                index = self._index.refresh()
                if not index.rows and (index.damaged or files.half_row(self.path) is None):
                    raise SinkError(f"jsonl {self.path}: none of its lines is a row")
                self._newest = max(index.ids[-1:], default="")
                self._file = FileIO(self.path, "r")

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file, self._mended = None, False
                self._following.close()

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        with self._lock, self._told():
            file = self._writable()
            try:
                kept = self._without_pruned(rows)
                fresh, conflicts = self._sorted_out(kept)
                files.append(file, map(line_of, fresh), durable=durable)
            except BaseException:  # nothing of it was written: nothing of it is known
                self._newest = max([self._newest, *self._hashes])
                self._hashes.clear()
                raise
            while len(self._hashes) > _REMEMBERED:
                self._newest = max(self._newest, self._hashes.popitem(last=False)[0])
            known = len(kept) - len(fresh) - len(conflicts)
            return Written(len(fresh), known, tuple(conflicts), pruned=len(rows) - len(kept))

    def _without_pruned(self, rows: Sequence[Row]) -> Sequence[Row]:
        late = {row.call_id for row in rows if row.call_id <= self._pruned} - begun(rows)
        gone = {call_id for call_id in late if not self._known(call_id)}
        return [row for row in rows if row.call_id not in gone] if gone else rows

    def _sorted_out(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """(rows that are new, rows that say something else than those that are there)."""
        fresh: list[Row] = []
        conflicts: list[Row] = []
        for row in rows:
            there = self._known(row.call_id)
            known = there.get(row.seq)
            if known is None:
                there[row.seq] = row.hash
                fresh.append(row)
            elif known != row.hash:
                conflicts.append(row)
        return fresh, conflicts

    def call(self, call_id: str) -> Call | None:
        with self._asked() as index:
            return index.call(call_id)

    def calls(self, wanted: CallFilter) -> list[Call]:
        found: list[Call] = []
        texts = None if wanted.text is None else [each.lower() for each in spellings(wanted.text)]
        with self._asked() as index:
            for call_id in reversed(index.ids):
                call = index.call(call_id)
                if call is None or not fits(call, index.entries[call_id], wanted):
                    continue
                if texts is None or any(says(row, texts) for row in index.rows_of(call_id)):
                    found.append(call)
                    if len(found) == wanted.limit:
                        break
        return found

    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        with self._asked() as index:
            found = [row for row in index.rows_of(call_id) if row.seq > after]
        return sorted(found, key=lambda row: row.seq)

    def damage(self) -> list[str]:
        """The lines that are no rows. Everything else can be asked all the same."""
        with self._asked() as index:
            return [f"line {number} is no row" for number, _ in index.damaged]

    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        with self._lock, self._told():
            self._opened()
            return (self._following.end(), []) if position is None else self._following.rows(position, limit)

    def unfinished(self, writer: str | None = None) -> list[str]:
        with self._asked() as index:
            calls = [call for call_id in index.ids if (call := index.call(call_id)) is not None]
        return [call.call_id for call in calls if call.ended_at is None and writer in (None, call.writer)]

    def prune(
        self,
        *,
        before: float | None = None,
        max_bytes: int | None = None,
        events_only: bool = False,
        seen: int | None = None,
    ) -> int:
        """The file is written anew without the pruned calls. (There is no line of a call without its events, so
        `events_only` prunes the same.)"""
        with self._asked() as index:
            end = index.end if seen is None else self._following.place(seen)
            gone = chosen(index, before, max_bytes, end)
            if gone:
                self._writable()  # what another one wrote meanwhile would be lost
                self._rewrite(gone)
            return len(gone)

    def pruned(self) -> str | None:
        with self._lock, self._told():
            self._opened()
            return remembered(self._beside) or None

    def stats(self) -> Mapping[str, Any]:
        with self._asked() as index:
            times = [
                at for entry in index.entries.values() if (at := entry.line.get("started_at")) is not None
            ]
            return {
                "calls": len(index.ids),
                "events": index.rows,
                "bytes": self.path.stat().st_size,
                "schema": 1,
                "oldest": min(times, default=None),
                "newest": max(times, default=None),
            }

    # -- the file ------------------------------------------------------------------------------------------------------

    def _made(self) -> None:
        if not self.path.exists():
            self.path.touch(mode=0o600)
            files.sync_folder(self.path)

    def _opened(self) -> FileIO:
        if self._file is None:
            raise SinkError(f"jsonl {self.path}: it is not open")
        return self._file

    def _writable(self) -> FileIO:
        """The file, ours alone, and mended. (By who writes: a reader may see a line while it is being written.)"""
        if self._mended and not files.has_name(self._opened(), self.path):  # nobody would ever find the rows
            self._reopen()
            raise SinkError(f"jsonl {self.path}: the file was taken away, another one is written now")
        if not self._mended:
            self._opened().close()
            self._file = file = FileIO(self.path, "r+")
            if not files.locked(file.fileno()):
                raise SinkError(f"jsonl {self.path}: somebody else writes it; only one can")
            files.mended(file, self.path)
            # another one may have written between `open` and the lock
            self._newest = max(self._index.refresh().ids[-1:], default="")
            self._hashes.clear()
            self._pruned = remembered(self._beside)
            self._mended = True
        return self._opened()

    def _reopen(self) -> None:
        stale, self._file = self._opened(), None
        try:
            self.open()
            stale.close()
            self._mended = False
        finally:  # it is tried again with the next write
            self._file = self._file or stale

    def _known(self, call_id: str) -> dict[int, str]:
        """The hashes of the call's rows."""
        if call_id not in self._hashes:
            new = call_id > self._newest
            self._hashes[call_id] = {} if new else {each.seq: each.hash for each in self.rows(call_id)}
        return self._hashes[call_id]

    def _rewrite(self, gone: set[str]) -> None:
        """Nobody knows whose the damaged lines were: those before everything that is kept go, too."""
        fresh = self.path.with_name(self.path.name + ".new")
        renewed = files.private(fresh)
        try:
            files.locked(renewed.fileno())  # before it has the name: nobody comes between
            copy(self.path, renewed, gone)
            self._pruned = max(self._pruned, *gone)
            remember(self._beside, self._pruned)  # first: nothing of it may come back
            fresh.replace(self.path)
        except BaseException:  # a disk that is full needs the room
            renewed.close()
            fresh.unlink(missing_ok=True)
            raise
        files.sync_folder(self.path)
        self._opened().close()
        self._file = renewed
        self._hashes.clear()
        self._newest = max(self._index.refresh().ids[-1:], default="")

    @contextlib.contextmanager
    def _asked(self) -> Generator[Index]:
        with self._lock, self._told():
            self._opened()
            yield self._index.refresh()

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise SinkError(f"jsonl {self.path}: {error}") from None
