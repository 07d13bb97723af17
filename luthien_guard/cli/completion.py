"""`luthien-guard completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL: `eval "$(luthien-guard completion bash)"`, or write it to a file of fish's
    completions folder."""
    from luthien_guard.cli import main

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(main, {}, "luthien-guard", "_LUTHIEN_GUARD_COMPLETE").source())
