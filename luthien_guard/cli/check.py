"""`luthien-guard check`: is this configuration right, and what will it do?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from luthien_guard.config import config_from_environment
from luthien_guard.errors import ConfigError
from luthien_guard.guard import Guard

__all__ = ["command"]


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), required=False)
def command(file: Path | None) -> None:
    """Validate FILE (default: what POLICY_CONFIG names) and print the policies in order and what each holds back."""
    path = file or config_from_environment()
    if path is None:
        raise click.UsageError("name a file, or set POLICY_CONFIG")
    try:
        guard = Guard.from_config(path)
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    held = {name: [what for who, what in guard.holds() if who == name] for name in guard.policies}
    for number, name in enumerate(guard.policies, start=1):
        click.echo(f"{number}. {name}: holds {', '.join(held[name]) or 'nothing'}")
    if not guard.policies:
        click.echo("no policies: everything passes")
