"""`luthien-guard calls`: recorded exchanges."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.asking import (
    ago,
    answered,
    as_json,
    json_option,
    store_option,
    store_url,
)
from luthien_guard.cli.facts import clock
from luthien_guard.cli.kinds import Duration
from luthien_guard.cli.output import table
from luthien_guard.cli.terminal import say
from luthien_guard.exchange import OutcomeStatus

__all__ = ["command"]


@click.command("calls")
@click.option("--since", type=Duration(), help="Begun in the last 30m, 12h, 7d.")
@click.option("--until", type=Duration(), help="Begun before that.")
@click.option("--model", help="Of this model.")
@click.option("--endpoint", help="On this path.")
@click.option("--outcome", type=click.Choice([each.value for each in OutcomeStatus]), help="That ended so.")
@click.option("--policy", help="Where this policy did or said something.")
@click.option("--session", "session_id", help="Of this session.")
@click.option("--text", help="With this text anywhere in the record.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@store_option
def command(
    since: float | None,
    until: float | None,
    json_: bool,
    store: str | None,
    config: Path | None,
    **wanted: Any,
) -> None:
    """List exchanges, newest first. Exit codes: 0 fine, 2 wrong usage or a store that cannot be asked."""
    filters = {**wanted, "since": ago(since), "until": ago(until)}
    found = answered(store_url(store, config), lambda query: query.calls(**filters))
    if json_:
        for each in found:
            as_json(asdict(each))
        return
    if not found:
        say("no calls")
        return
    heads = ("started", "call", "model", "outcome", "by", "session")
    table(
        heads,
        [
            (clock(each.started_at), each.call_id, each.model or "-", each.outcome or "running",
             each.blocked_by or "-", each.session_id or "-")
            for each in found
        ],
    )  # fmt: skip
