"""`luthien-guard demo`: policies at work on provider traffic, on loopback, without a key."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.kinds import Seconds

__all__ = ["command"]


@click.command("demo")
@click.option(
    "--recordings", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Replay a folder."
)
@click.option(
    "--pace",
    type=Seconds(0),
    default=0.005,
    show_default=True,
    help="Seconds between two parts of an answer.",
)
@click.option("--limit", type=click.IntRange(0), default=0, help="At most so many exchanges; 0 is all.")
@click.option("--serve", is_flag=True, help="Keep the guarded application up and say what to try.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="The port on loopback; 0 takes a free one."
)
def command(recordings: Path | None, pace: float, limit: int, serve: bool, port: int) -> None:
    """Replay provider traffic through a guarded application and show what the policies did with it."""
    if importlib.util.find_spec("uvicorn") is None:
        raise click.ClickException('the demo needs a server: pip install "luthien-guard[serve]"')
    from luthien_guard.cli.demo.cases import recorded, scripted
    from luthien_guard.cli.demo.server import Doors, serving
    from luthien_guard.cli.demo.upstream import Upstream

    cases = list(recorded(recordings)) if recordings else scripted()
    cases = cases[:limit] if limit else cases
    if not cases:
        raise click.ClickException(f"no recorded exchanges in {recordings}")
    upstream = Upstream(cases, pace)
    doors = Doors(upstream)
    with serving(doors, port) as bound:
        broken = 0 if serve else _show(cases, bound, doors, upstream)
        if serve:
            _stay(cases, bound)
    sys.exit(1 if broken else 0)


def _show(cases: list[Any], port: int, doors: Any, upstream: Any) -> int:
    from luthien_guard.cli.demo.results import play
    from luthien_guard.cli.demo.table import progress, show

    began = time.monotonic()
    results = [play(case, port, doors, upstream) for case in progress(cases)]
    show(results)
    broken = [result for result in results if result.broken]
    changed = sum(1 for result in results if result.by)
    seconds = time.monotonic() - began
    click.echo(
        f"{len(results)} exchanges in {seconds:.1f} s; policies acted on {changed}; laws broken by {len(broken)}."
    )
    for name, held in doors.guard.holds():
        click.echo(f"held back by {name}: {held}")
    click.echo("Next: `luthien-guard demo --serve`, or write a policy: docs/policies.md")
    return len(broken)


def _stay(cases: list[Any], port: int) -> None:
    import json

    from luthien_guard.cli.demo.cases import PATHS, samples

    click.echo(f"Guarded on http://127.0.0.1:{port} (unguarded under /bare). Try, and end with Ctrl-C:\n")
    for case in samples(cases):
        url = f"http://127.0.0.1:{port}{PATHS[case.wire_format]}"
        click.echo(f"curl -N {url} -H 'content-type: application/json' -d '{json.dumps(case.request)}'\n")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("done")
