"""`luthien-guard keys`: the gateway's own keys."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import columns, fail, say
from luthien_guard.errors import ConfigError

__all__ = ["command"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class _Duration(click.ParamType[Any]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+)([smhdw])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no time: write 30m, 12h or 90d", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


@click.group("keys")
@config_option
@click.pass_context
def command(ctx: click.Context, config: Path | None) -> None:
    """Make, list and revoke keys for `auth: {mode: client_key}`. A change counts for running gateways at once."""
    from luthien_guard.gateway.authentication import key_file

    ctx.obj = key_file(load_or_fail(config).config.auth)


@command.command("create")
@click.option("--name", default="", help="Whose it is.")
@click.option(
    "--scope", "scopes", multiple=True, help="chat, messages, responses, models, metrics [default: all]."
)
@click.option("--expires", type=_Duration(), help="After 30m, 12h, 90d, ... [default: never].")
@click.option("--requests-per-minute", type=click.IntRange(1), help="For each worker.")
@click.pass_obj
def create(
    keys: Any, name: str, scopes: tuple[str, ...], expires: float | None, requests_per_minute: int | None
) -> None:
    """Make a key and print it, once: only an HMAC of it is kept."""
    from luthien_guard.config.explain import did_you_mean
    from luthien_guard.gateway.scopes import SCOPES

    for scope in scopes:
        if scope != "*" and scope not in SCOPES:
            fail(f"unknown scope {scope!r}{did_you_mean(scope, SCOPES)}")
    settings = {} if requests_per_minute is None else {"requests_per_minute": requests_per_minute}
    try:
        key, text = keys.create(name, scopes=scopes or ("*",), seconds=expires, settings=settings)
    except ConfigError as error:
        fail(error)
    say(f"key {key.id} ({_until(key.expires_at)}), kept in {keys.path}; it is not shown again:", err=True)
    say(text)


@command.command("list")
@click.pass_obj
def list_(keys: Any) -> None:
    """Every key: never its text."""
    try:
        found = keys.all()
    except ConfigError as error:
        fail(error)
    if not found:
        say("no keys: luthien-guard keys create --name NAME")
        return
    heads = ("id", "name", "state", "scopes", "created", "expires", "requests/min")
    say(columns([_line(each) for each in found], heads=heads))


@command.command("revoke")
@click.argument("id")
@click.pass_obj
def revoke(keys: Any, id: str) -> None:
    """Revoke the key with this id (of `keys list`)."""
    if id.startswith("lg_"):
        fail("give the id, not the key itself: a command line is no place for a secret")
    try:
        done = keys.revoke(id)
    except ConfigError as error:
        fail(error)
    if not done:
        fail(f"no key with the id {id!r} is left to revoke")
    say(f"key {id} is revoked")


def _line(key: Any) -> tuple[str, ...]:
    rate = key.settings.get("requests_per_minute")
    expires = _date(key.expires_at) if key.expires_at is not None else "never"
    scopes = ",".join(sorted(key.scopes))
    state = key.state(time.time())
    return key.id, key.name or "-", state, scopes, _date(key.created_at), expires, str(rate or "-")


def _until(expires_at: float | None) -> str:
    return "never expires" if expires_at is None else f"until {_date(expires_at)}"


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
