"""How each coding agent is told where to ask: by its environment and its arguments, never by the user's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from luthien_guard.config.environment import PREFIX, VARIABLE

__all__ = ["CLIENTS", "Door", "Start", "client_start"]

#: What stands in for a credential where the gateway has its own for the provider: clients refuse to start without.
PLACEHOLDER: Final = "luthien-guard"
#: With these Claude Code asks another service, past the gateway.
_AROUND_CLAUDE: Final = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_LOOPBACK: Final = "127.0.0.1,localhost,::1"


@dataclass(frozen=True, slots=True)
class Door:
    """The gateway as clients see it. `key`: one of the gateway's own, if it asks for that. `pays`: it has credentials
    for the providers, so clients need none."""

    url: str
    key: str | None = None
    pays: bool = False


@dataclass(slots=True)
class Start:
    """What to run, and what the user should know about it."""

    arguments: list[str]
    environment: dict[str, str]
    notes: list[str] = field(default_factory=list[str])


def client_start(client: str, door: Door, arguments: Sequence[str], environ: Mapping[str, str]) -> Start:
    """How to start `client` behind `door`. The gateway's own settings and secrets do not go along: agents run commands
    that strangers thought of."""
    own = {name: value for name, value in environ.items() if not name.startswith(PREFIX) and name != VARIABLE}
    for name in ("NO_PROXY", "no_proxy"):
        own[name] = f"{own[name]},{_LOOPBACK}" if own.get(name) else _LOOPBACK
    start = Start([client, *arguments], own)
    CLIENTS[client](start, door)
    return start


def _claude(start: Start, door: Door) -> None:
    environment = start.environment
    _replace(start, "ANTHROPIC_BASE_URL", door.url)
    for name in _AROUND_CLAUDE:
        if environment.pop(name, None):
            start.notes.append(f"{name} is not set for this run: it would go past the gateway")
    environment.setdefault("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
    if door.key is not None:
        environment.pop("ANTHROPIC_API_KEY", None)  # two credentials in one request are refused
        environment["ANTHROPIC_AUTH_TOKEN"] = door.key
    elif door.pays and not environment.get("ANTHROPIC_API_KEY"):
        environment.setdefault("ANTHROPIC_AUTH_TOKEN", PLACEHOLDER)
    _over_settings(start, {"ANTHROPIC_BASE_URL": door.url, **dict.fromkeys(_AROUND_CLAUDE, "0")})


def _over_settings(start: Start, environment: Mapping[str, str]) -> None:
    """The `env` of Claude Code's settings files, the project's own among them, stands over its environment; only
    `--settings` stands over those. The last one counts, so the user's and ours become one. No key stands in it: what a
    program is started with is everybody's to read."""
    given, at = _given_settings(start.arguments)
    try:
        settings = _settings(given)
    except (OSError, ValueError):
        start.notes.append("--settings is no JSON: an env in the settings may lead past the gateway")
        return
    ours = json.dumps({**settings, "env": {**(settings.get("env") or {}), **environment}})
    if at is None:
        start.arguments[1:1] = ["--settings", ours]
    else:
        start.arguments[at] = ours


def _given_settings(arguments: list[str]) -> tuple[str | None, int | None]:
    """The value of the last `--settings`, and where it stands."""
    for at in range(len(arguments) - 1, 0, -1):
        if arguments[at].startswith("--settings="):
            arguments[at : at + 1] = arguments[at].split("=", 1)
            return arguments[at + 1], at + 1
        if arguments[at] == "--settings" and at + 1 < len(arguments):
            return arguments[at + 1], at + 1
    return None, None


def _settings(given: str | None) -> dict[str, Any]:
    if given is None:
        return {}
    text = given if given.lstrip().startswith("{") else Path(given).expanduser().read_text(encoding="utf-8")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(given)
    return found


def _codex(start: Start, door: Door) -> None:
    """A provider of its own: the built-in one cannot be pointed elsewhere by every version, and asks for a WebSocket
    first. Values are TOML."""
    environment = start.environment
    _openai_key(environment, door)
    settings = {
        "name": '"luthien-guard"',
        "base_url": json.dumps(f"{door.url}/v1"),
        "wire_api": '"responses"',
    }
    if environment.get("OPENAI_API_KEY"):
        settings["env_key"] = '"OPENAI_API_KEY"'
    else:
        settings["requires_openai_auth"] = "true"
        start.notes.append("OPENAI_API_KEY is not set: codex uses its own login")
    options = [("model_provider", '"luthien"')]
    options += [(f"model_providers.luthien.{name}", value) for name, value in settings.items()]
    start.arguments[1:1] = [part for name, value in options for part in ("-c", f"{name}={value}")]


def _opencode(start: Start, door: Door) -> None:
    """Its inline configuration stands over all files of the user's."""
    environment = start.environment
    _openai_key(environment, door)
    if door.key is not None or (door.pays and not environment.get("ANTHROPIC_API_KEY")):
        environment["ANTHROPIC_API_KEY"] = door.key or PLACEHOLDER
    given = environment.get("OPENCODE_CONFIG_CONTENT")
    try:
        config: Any = json.loads(given) if given else {}
    except ValueError:
        config = {}
        start.notes.append("OPENCODE_CONFIG_CONTENT is not JSON: it is not used for this run")
    providers = config.setdefault("provider", {})
    for name in ("anthropic", "openai"):
        options = providers.setdefault(name, {}).setdefault("options", {})
        options["baseURL"] = f"{door.url}/v1"
        if door.key is not None:
            options["apiKey"] = door.key
    environment["OPENCODE_CONFIG_CONTENT"] = json.dumps(config)
    start.notes.append("providers other than anthropic and openai do not go through the gateway")


def _openai_key(environment: dict[str, str], door: Door) -> None:
    if door.key is not None:
        environment["OPENAI_API_KEY"] = door.key
    elif door.pays and not environment.get("OPENAI_API_KEY"):
        environment["OPENAI_API_KEY"] = PLACEHOLDER


def _replace(start: Start, name: str, value: str) -> None:
    if start.environment.get(name, value) != value:
        start.notes.append(
            f"{name} is replaced for this run: the gateway's upstreams decide where requests go"
        )
    start.environment[name] = value


_Setup: TypeAlias = Callable[[Start, Door], None]
CLIENTS: Final[Mapping[str, _Setup]] = {"claude": _claude, "codex": _codex, "opencode": _opencode}
