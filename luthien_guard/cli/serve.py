"""`luthien-guard serve`: the gateway, with one command."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.ending import ended_by_signals
from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import fail, say
from luthien_guard.config.load import Loaded
from luthien_guard.config.yaml_file import Place
from luthien_guard.errors import LuthienError

__all__ = ["command"]


@click.command("serve")
@config_option
@click.option("--host", help="The address to listen on [default: 127.0.0.1].")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one [default: 8000].")
@click.option("--workers", type=click.IntRange(1), help="Processes that share the port [default: 1].")
@click.option(
    "--announce", type=click.Path(path_type=Path), hidden=True, help="Write address and pid there when up."
)
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input does.")
def command(
    config: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    announce: Path | None,
    with_parent: bool,
) -> None:
    """Serve the gateway. SIGHUP, or a change of the file, loads new policies; Ctrl-C ends it."""
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
        fail("the gateway needs a server: pip install 'luthien-guard[serve]'")
    with ended_by_signals():
        loaded = load_or_fail(config, _options(host=host, port=port, workers=workers))
        from luthien_guard.cli.serving import end_with_parent, serve

        try:
            if with_parent:
                end_with_parent()
            serve(loaded, announce, told=lambda url: say(_greeting(loaded, url)))
        except LuthienError as error:
            fail(error)


def _options(**given: Any) -> dict[Place, tuple[str, Any]]:
    return {("server", name): (f"--{name}", value) for name, value in given.items() if value is not None}


def _greeting(loaded: Loaded, url: str) -> str:
    config = loaded.config
    names = [each if isinstance(each, str) else each.name or each.use for each in config.policies]
    lines = [
        f"luthien-guard serves {url}",
        f"  configuration  {loaded.path or 'none: defaults (see `luthien-guard config show --origin`)'}",
        f"  policies       {', '.join(names) or 'none: everything passes'}",
        f"  store          {_store(config.store)}",
        f"  authentication {config.auth.mode}",
        "",
        "Try, in another terminal:",
        f"  curl {url}/health",
        "  luthien-guard launch claude",
        f"  ANTHROPIC_BASE_URL={url} claude        OPENAI_BASE_URL={url}/v1 python app.py",
    ]
    if config.auth.mode == "client_key":
        lines.append("  luthien-guard keys create --name me")
    if loaded.path is None:
        lines.append("  luthien-guard policies list     # then write guard.yaml: docs/configuration.md")
    return "\n".join(lines)


def _store(url: str | None) -> Any:
    from luthien_guard.config.masking import masked

    return masked(url) if url else "none: the last thousand exchanges, in memory"
