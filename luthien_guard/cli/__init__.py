"""The command line: `luthien-guard COMMAND`. Commands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import importlib
from typing import Final

import click

from luthien_guard import __version__

__all__ = ["main"]

_COMMANDS: Final = {"demo": "luthien_guard.cli.demo", "check": "luthien_guard.cli.check"}


class _Lazy(click.Group):
    """A group that imports a command's module on its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="luthien-guard")
def main() -> None:
    """Put LLM traffic under policy. Exit codes: 0 fine, 1 a law is broken, 2 wrong usage or configuration."""
