"""`luthien-guard policies`: what is installed, what it does, what a configuration makes of it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import columns, fail, say
from luthien_guard.errors import ConfigError, did_you_mean

__all__ = ["command"]


@click.group("policies")
def command() -> None:
    """List installed policies, show one, print the plan."""


@command.command("list")
def list_() -> None:
    """Every installed policy, with the package that brings it. Installed is not active: the configuration decides."""
    from luthien_guard.registry import available

    rows = [
        (name, _first_line(_loaded(entry)), _package(entry)) for name, entry in sorted(available().items())
    ]
    say(columns(rows, heads=("use", "what it does", "from")))


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """What the policy NAME does, its settings and the hooks that it implements."""
    from luthien_guard.hooks import HOOKS
    from luthien_guard.registry import available

    entry = available().get(name)
    if entry is None:
        fail(f"no policy {name!r} is installed{did_you_mean(name, available())}")
    found = _loaded(entry)
    if isinstance(found, Exception):
        fail(f"policy {name!r} cannot be loaded: {found}")
    say(f"{name}: {found.__module__}:{found.__qualname__}, from {_package(entry)}\n")
    say(f"{_doc(found) or 'It says nothing about itself.'}\n")
    settings = [(f"  {each.name}", _type(each), _default(each)) for each in _settings(found)]
    say("config:" if settings else "config: none")
    if settings:
        say(columns(settings))
    say("hooks: " + (", ".join(hook for hook in HOOKS if hasattr(found, hook)) or "none"))


@command.command("plan")
@config_option
def plan(config: Path | None) -> None:
    """The configured policies in order: what each hears, what it holds back, how strict it is."""
    from luthien_guard.cli.plan import policy_rows
    from luthien_guard.config.explain import of_file
    from luthien_guard.config.load import guard_arguments
    from luthien_guard.policy_sets import plans

    loaded = load_or_fail(config)
    arguments = guard_arguments(loaded.config)
    try:
        with of_file(loaded.path, loaded.origins):
            made = plans(arguments["policies"], {}, mode=arguments["mode"], allow_paths=True)[None]
    except ConfigError as error:
        fail(error)
    say("\n".join(policy_rows(made, hooks=True)))


def _loaded(entry: Any) -> Any:
    """The class, or what went wrong: one broken package must not hide the others."""
    from luthien_guard.policy import Policy

    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001 -- a stranger's module
        return error
    if isinstance(found, type) and issubclass(found, Policy):
        return found
    return TypeError(f"{found!r} is no subclass of luthien_guard.Policy")


def _doc(found: type[Any]) -> str | None:
    """What all policies inherit tells nothing about this one."""
    return next((inspect.cleandoc(each.__doc__) for each in _own(found) if each.__doc__), None)


def _own(found: type[Any]) -> list[type[Any]]:
    from luthien_guard.policy import Policy

    return [each for each in found.__mro__ if issubclass(each, Policy) and each is not Policy]


def _first_line(found: Any) -> str:
    if isinstance(found, Exception):
        return f"cannot be loaded: {found}"
    text = (_doc(found) or "-").split("\n\n")[0].replace("\n", " ")
    return text if len(text) <= 80 else text[:79] + "…"


def _package(entry: Any) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "-"


def _settings(found: Any) -> list[inspect.Parameter]:
    every = inspect.signature(found).parameters.values()
    return [each for each in every if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]


def _type(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation
    return (
        "" if kind is parameter.empty else kind if isinstance(kind, str) else inspect.formatannotation(kind)
    )


def _default(parameter: inspect.Parameter) -> str:
    return "required" if parameter.default is parameter.empty else f"default {parameter.default!r}"
