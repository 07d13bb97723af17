"""`luthien-guard db`: the store itself."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.asking import (
    ago,
    as_json,
    existing,
    json_option,
    store_option,
    store_url,
)
from luthien_guard.cli.exporting import Exported, exported, writer_for
from luthien_guard.cli.facts import clock
from luthien_guard.cli.kinds import Duration, Size
from luthien_guard.cli.output import progress
from luthien_guard.cli.streams import refused
from luthien_guard.cli.terminal import fail, say
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Store

__all__ = ["command"]


@click.group("db")
def command() -> None:
    """Look after the store: schema, retention, export. Exit codes: 0 fine, 2 wrong usage or a store that fails."""


@command.command("migrate")
@json_option
@store_option
def migrate(json_: bool, store: str | None, config: Path | None) -> None:
    """Make the store, or bring its schema up to date (the gateway does so itself when it starts)."""
    with _opened(store, config, make=True) as opened:
        schema = opened.stats()["schema"]
    as_json({"schema": schema}) if json_ else say(f"schema {schema}")


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
@click.option("--older-than", type=Duration(), help="Only calls that began longer ago than 30d.")
@json_option
@store_option
def export(file: Path, older_than: float | None, json_: bool, store: str | None, config: Path | None) -> None:
    """Write the rows into FILE, which must not be there: JSON lines, or Parquet (`.parquet`, needs the extra
    `parquet`). JSON lines are a store again: `--store jsonl:///FILE`."""
    with _opened(store, config) as opened:
        rows = _export(opened, file, ago(older_than)).rows
    as_json({"rows": rows, "file": str(file)}) if json_ else say(f"{rows} rows in {file}")


@command.command("prune")
@click.option("--older-than", type=Duration(), help="Delete calls that began longer ago than 30d.")
@click.option("--max-bytes", type=Size(), help="Then the oldest, until the store is within 1GB.")
@click.option("--events-only", is_flag=True, help="Keep the line of each call.")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what is deleted into FILE first; with --max-bytes the whole store.",
)
@json_option
@store_option
def prune(
    older_than: float | None, max_bytes: int | None, events_only: bool, file: Path | None, json_: bool,
    store: str | None, config: Path | None,
) -> None:  # fmt: skip
    """Delete what is old."""
    if older_than is None and max_bytes is None:
        fail("say what is old: --older-than, --max-bytes, or both")
    before = ago(older_than)
    seen: int | None = None
    said: dict[str, Any] = {}
    with _opened(store, config) as opened:
        if file is not None:
            # how many calls are too many is only known while they are deleted
            done = _export(opened, file, before if max_bytes is None else None)
            seen, said = done.seen, {"rows": done.rows, "file": str(file)}
        with progress("deleting"):
            said["deleted"] = opened.prune(
                before=before, max_bytes=max_bytes, events_only=events_only, seen=seen
            )
    if json_:
        as_json(said)
        return
    if file is not None:
        say(f"{said['rows']} rows in {file}")
    say(f"{said['deleted']} calls deleted")


@contextmanager
def _opened(store: str | None, config: Path | None, *, make: bool = False) -> Generator[Store]:
    url = store_url(store, config)
    try:
        opened = open_store(url) if make else existing(url)
        opened.open()
        try:
            yield opened
        finally:
            opened.close()
    except (ConfigError, SinkError) as error:
        fail(error)
    except OSError as error:
        fail(refused(error))


def _export(store: Store, file: Path, before: float | None) -> Exported:
    write = writer_for(file)
    with progress("exporting", int(store.stats()["events"])) as tell:
        return exported(store, file, write, before, tell)
