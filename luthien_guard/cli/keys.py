"""`luthien-guard keys`: the gateway's own keys."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luthien_guard.cli.kinds import Duration
from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.streams import refused
from luthien_guard.cli.terminal import columns, fail, say
from luthien_guard.config.load import Loaded
from luthien_guard.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from luthien_guard.gateway.key import Keys

__all__ = ["command"]


@click.group("keys")
@config_option
@click.pass_context
def command(ctx: click.Context, config: Path | None) -> None:
    """Make, list and revoke keys for `auth: {mode: client_key}`. A change counts for running gateways within a second."""
    ctx.obj = load_or_fail(config)


@command.command("create")
@click.option("--name", default="", help="Whose it is.")
@click.option(
    "--scope", "scopes", multiple=True, help="chat, messages, responses, models, metrics [default: all]."
)
@click.option("--expires", type=Duration(), help="After 30m, 12h, 90d, ... [default: never].")
@click.option("--requests-per-minute", type=click.IntRange(1), help="For all workers together.")
@click.option("--policies", help="A set of `policy_sets`: it runs after the policies of all.")
@click.pass_obj
def create(
    loaded: Loaded,
    name: str,
    scopes: tuple[str, ...],
    expires: float | None,
    requests_per_minute: int | None,
    policies: str | None,
) -> None:
    """Make a key and print it, once: only an HMAC of it is kept."""
    from luthien_guard.gateway.scopes import SCOPES

    for scope in scopes:
        if scope != "*" and scope not in SCOPES:
            fail(f"unknown scope {scope!r}{did_you_mean(scope, SCOPES)}")
    sets = loaded.config.policy_sets
    if policies is not None and policies not in sets:
        fail(f"no policy set {policies!r} is configured{did_you_mean(policies, sets)}")
    given = {"requests_per_minute": requests_per_minute, "policies": policies}
    settings = {name: value for name, value in given.items() if value is not None}
    with _keys(loaded) as keys:
        key, text = keys.create(name, scopes=scopes or ("*",), seconds=expires, settings=settings)
    say(f"key {key.id} ({_until(key.expires_at)}), kept in {keys.place}; it is not shown again:", err=True)
    say(text)


@command.command("list")
@click.pass_obj
def list_(loaded: Loaded) -> None:
    """Every key: never its text. Records of its calls have its `api_key_hash`."""
    with _keys(loaded) as keys:
        found = keys.all()
    if not found:
        say("no keys: luthien-guard keys create --name NAME")
        return
    heads = (
        "id",
        "name",
        "state",
        "scopes",
        "policies",
        "created",
        "expires",
        "requests/min",
        "api_key_hash",
    )
    say(columns([_line(each) for each in found], heads=heads))


@command.command("revoke")
@click.argument("id")
@click.pass_obj
def revoke(loaded: Loaded, id: str) -> None:
    """Revoke the key with this id (of `keys list`)."""
    if id.startswith("lg_"):
        fail("give the id, not the key itself: a command line is no place for a secret")
    with _keys(loaded) as keys:
        done = keys.revoke(id)
    if not done:
        fail(f"no key with the id {id!r} is left to revoke")
    say(f"key {id} is revoked")


@contextmanager
def _keys(loaded: Loaded) -> Generator[Keys]:
    from luthien_guard.gateway.shared.urls import keys_of, located

    try:
        with closing(located(loaded, ("auth", "keys"), lambda: keys_of(loaded.config.auth))) as keys:
            yield keys
    except ConfigError as error:
        fail(error)
    except OSError as error:
        fail(f"the keys cannot be used: {refused(error)}")


def _line(key: Any) -> tuple[str, ...]:
    rate = key.settings.get("requests_per_minute")
    expires = _date(key.expires_at) if key.expires_at is not None else "never"
    scopes = ",".join(sorted(key.scopes))
    state = key.state(time.time())
    policies = key.settings.get("policies", "-")
    limits = policies, _date(key.created_at), expires, str(rate or "-")
    return key.id, key.name or "-", state, scopes, *limits, key.hash


def _until(expires_at: float | None) -> str:
    return "never expires" if expires_at is None else f"until {_date(expires_at)}"


def _date(at: float) -> str:
    """Whatever stands in the table: one key that no calendar has a day for must not hide the others."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
    except (TypeError, ValueError, OverflowError, OSError):
        return f"at {at!r}"
