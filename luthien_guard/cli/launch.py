"""`luthien-guard launch`: a coding agent behind the gateway, with one command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from luthien_guard.cli.clients import CLIENTS, Door, Start, client_start
from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import fail, say
from luthien_guard.config.load import Loaded
from luthien_guard.config.settings import GuardConfig
from luthien_guard.errors import ConfigError

__all__ = ["command"]

_KEY_SECONDS: Final = 7 * 86400.0  # should this program die before it can revoke the key


@click.command("launch", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@config_option
@click.option("--url", help="Use the gateway at this address.")
@click.option("--new", is_flag=True, help="Start a gateway even where one runs.")
@click.argument("client", type=click.Choice(list(CLIENTS)))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(config: Path | None, url: str | None, new: bool, client: str, arguments: tuple[str, ...]) -> None:
    """Start CLIENT with ARGUMENTS behind the gateway, which is started where none runs. None of the user's files are
    edited; afterwards everything is as it was. Ends with the client's own exit code."""
    if shutil.which(client) is None:
        fail(f"{client} is not installed, or not on the PATH")
    loaded = load_or_fail(config)
    with ExitStack() as stack:
        try:
            url = url or stack.enter_context(_gateway(loaded, new))
            key = os.environ.get("LUTHIEN_API_KEY") or stack.enter_context(_key(loaded, client))
        except ConfigError as error:
            fail(error)
        door = Door(url.rstrip("/"), key, _pays(loaded.config))
        start = client_start(client, door, _without_dashes(arguments), os.environ)
        for note in start.notes:
            say(f"luthien-guard: {note}", err=True)
        say(f"luthien-guard: {client} asks {door.url}", err=True)
        code = _run(start)
    sys.exit(code)


@contextmanager
def _gateway(loaded: Loaded, new: bool) -> Generator[str]:
    from luthien_guard.cli.background import own_gateway, running_gateway

    url = None if new else running_gateway(loaded.path)
    if url is not None:
        yield url
        return
    with own_gateway(loaded.path) as url:
        yield url


@contextmanager
def _key(loaded: Loaded, client: str) -> Generator[str | None]:
    """A key for this run where the gateway asks for one."""
    if loaded.config.auth.mode != "client_key":
        yield None
        return
    from luthien_guard.gateway.shared.urls import keys_of, located

    with closing(located(loaded, ("auth", "keys"), lambda: keys_of(loaded.config.auth))) as keys:
        key, text = keys.create(f"launch {client}", seconds=_KEY_SECONDS)
        try:
            yield text
        finally:
            keys.revoke(key.id)


def _pays(config: GuardConfig) -> bool:
    return any(each.api_key is not None or each.replay is not None for each in config.upstreams)


def _without_dashes(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return arguments[1:] if arguments[:1] == ("--",) else arguments


def _run(start: Start) -> int:
    """The client in the foreground: Ctrl-C is its own business, what ends us ends it first."""
    program = shutil.which(start.arguments[0])
    assert program is not None
    before = {each: signal.getsignal(each) for each in _signals()}
    process = subprocess.Popen([program, *start.arguments[1:]], env=start.environment)  # noqa: S603 -- the user's client

    def passed_on(number: int, _: Any) -> None:
        if number != signal.SIGINT:
            process.send_signal(number)

    try:
        for each in before:
            signal.signal(each, passed_on)
        code = process.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return code if code >= 0 else 128 - code


def _signals() -> list[signal.Signals]:
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
