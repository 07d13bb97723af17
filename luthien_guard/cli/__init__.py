"""The command line: `luthien-guard COMMAND`. Commands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, Final

import click

from luthien_guard import __version__
from luthien_guard.cli.streams import standard_streams
from luthien_guard.errors import did_you_mean

__all__ = ["main"]

#: Command -> what it does. The help of the group is made from this: importing every command for its own first line
#: would take longer than the whole rest.
_COMMANDS: Final[Mapping[str, str]] = {
    "audit": "Check that nothing in the store was changed.",
    "calls": "List recorded exchanges.",
    "check": "Validate a configuration and print the effective plan.",
    "completion": "Print the completion script of a shell.",
    "config": "Show the configuration, its origins and its schema.",
    "db": "Look after the store.",
    "demo": "Watch policies act on provider traffic, without a key.",
    "diff": "What policies changed in an exchange.",
    "doctor": "Find out what keeps the gateway from working.",
    "keys": "Make, list and revoke the gateway's own keys.",
    "launch": "Start a coding agent behind the gateway.",
    "policies": "List installed policies, show one, print the plan.",
    "serve": "Serve the gateway.",
    "show": "Show one exchange.",
    "tail": "Follow exchanges as they happen.",
}


class _Lazy(click.Group):
    """A group that imports a command's module on its first use."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with standard_streams():
            return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in sorted(_COMMANDS) if importlib.util.find_spec(f"luthien_guard.cli.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"luthien_guard.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}{hint}.", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="luthien-guard")
def main() -> None:
    """Put LLM traffic under policy. Exit codes: 0 fine, 1 a finding, 2 wrong usage or configuration."""
