"""`luthien-guard db`: the store itself."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.asking import ago, as_json, clock, json_option, store_option, store_url
from luthien_guard.cli.kinds import Duration, Size
from luthien_guard.cli.terminal import fail, say
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Row, Store

__all__ = ["command"]


@click.group("db")
def command() -> None:
    """Look after the store: schema, retention, export. Exit codes: 0 fine, 2 wrong usage or a store that fails."""


@command.command("migrate")
@store_option
def migrate(store: str | None, config: Path | None) -> None:
    """Bring the schema up to date (the gateway does so itself when it starts)."""
    with _opened(store, config) as opened:
        say(f"schema {opened.stats()['schema']}")


@command.command("stats")
@json_option
@store_option
def stats(json_: bool, store: str | None, config: Path | None) -> None:
    """How much is there, and since when."""
    with _opened(store, config) as opened:
        found = dict(opened.stats())
    if json_:
        as_json(found)
        return
    for name, value in found.items():
        say(f"{name:8} {clock(value) if name in ('oldest', 'newest') else value}")


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--older-than", type=Duration(), help="Only rows older than 30d.")
@store_option
def export(file: Path, older_than: float | None, store: str | None, config: Path | None) -> None:
    """Write the rows into FILE: JSON lines, or Parquet (`.parquet`, needs the extra `parquet`)."""
    with _opened(store, config) as opened:
        say(f"{_export(opened, file, ago(older_than))} rows in {file}")


@command.command("prune")
@click.option("--older-than", type=Duration(), help="Delete calls that began longer ago than 30d.")
@click.option("--max-bytes", type=Size(), help="Then the oldest, until the store is within 1GB.")
@click.option("--events-only", is_flag=True, help="Keep the line of each call.")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what is old into FILE first.",
)
@store_option
def prune(
    older_than: float | None, max_bytes: int | None, events_only: bool, file: Path | None, store: str | None,
    config: Path | None,
) -> None:  # fmt: skip
    """Delete what is old."""
    if older_than is None and max_bytes is None:
        fail("say what is old: --older-than, --max-bytes, or both")
    before = ago(older_than)
    with _opened(store, config) as opened:
        if file is not None:
            say(f"{_export(opened, file, before if max_bytes is None else None)} rows in {file}")
        count = opened.prune(before=before, max_bytes=max_bytes, events_only=events_only)
    say(f"{count} calls deleted")


@contextmanager
def _opened(store: str | None, config: Path | None) -> Iterator[Store]:
    try:
        opened = open_store(store_url(store, config))
        opened.open()
        try:
            yield opened
        finally:
            opened.close()
    except (ConfigError, SinkError) as error:
        fail(error)


def _export(store: Store, file: Path, before: float | None) -> int:
    """How many rows were written. The file appears when it is whole."""
    fresh = file.with_name(file.name + ".part")
    rows = _rows(store, before)
    with click.progressbar(length=int(store.stats()["events"]), label="export") as bar:
        counted = _counted(rows, bar)
        count = _parquet(fresh, counted) if file.suffix == ".parquet" else _jsonl(fresh, counted)
    fresh.replace(file)
    return count


def _rows(store: Store, before: float | None) -> Iterator[Row]:
    position = 0
    while True:
        position, rows = store.tail(position, limit=1000)
        if not rows:
            return
        yield from (row for row in rows if before is None or row.at < before)


def _counted(rows: Iterator[Row], bar: Any) -> Iterator[Row]:
    for row in rows:
        bar.update(1)
        yield row


def _jsonl(file: Path, rows: Iterator[Row]) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is asked for
            out.write(json.dumps(asdict(row)) + "\n")
    return count


def _parquet(file: Path, rows: Iterator[Row]) -> int:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        writer_of: Any = importlib.import_module("pyarrow.parquet").ParquetWriter
    except ImportError:
        fail("Parquet needs the extra: pip install luthien-guard[parquet]")
    schema = arrow.schema([(name, _ARROW.get(name, "string")) for name in Row.__slots__])
    count = 0
    with writer_of(file, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(asdict(row))
            count += 1
            if len(batch) == 1000:
                writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
    return count


_ARROW = {"seq": "int64", "at": "float64"}
