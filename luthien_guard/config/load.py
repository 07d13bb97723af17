"""From a file, the environment and the command line to one configuration that knows where each value came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from luthien_guard.config.environment import VARIABLE, overlaid, places, substituted
from luthien_guard.config.explain import dotted, explained
from luthien_guard.config.origin import Origins
from luthien_guard.config.settings import GuardConfig, PolicySettings
from luthien_guard.config.yaml_file import Place, YamlFile, read_yaml
from luthien_guard.errors import ConfigError, did_you_mean
from luthien_guard.limits import Limits

__all__ = ["Loaded", "config_from_environment", "guard_arguments", "load_config"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that is valid. `path` is None when there is no file."""

    config: GuardConfig
    origins: Origins
    path: Path | None = None


def config_from_environment(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file that `POLICY_CONFIG` names. Raises ConfigError for one that is set and names nothing: no file would mean
    no policies."""
    named = environ.get(VARIABLE)
    if named == "":
        raise ConfigError(f"environment variable {VARIABLE} is empty: name a file, or unset it")
    return None if named is None else Path(named)


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    options: Mapping[Place, tuple[str, Any]] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Loaded:
    """`options`: what the command line says, place -> (the option's name, value). `defaults`: values of top-level keys
    that neither the file nor anything else gives. Raises ConfigError, one line a problem, with file and line."""
    file = None if path is None else _compatible(read_yaml(path))
    options = options or {}
    raw = {**(defaults or {}), **({} if file is None else file.raw)}
    raw, variables = overlaid(raw, places(environ), environ)
    if file is not None:
        raw = substituted(raw, environ, file, skip=frozenset((*variables, *options)))
    origins = Origins(file, variables, {place: name for place, (name, _) in options.items()})
    for place, (_, value) in options.items():
        _set(raw, place, value)
    return Loaded(_validated(raw, origins, path), origins, path)


def guard_arguments(config: GuardConfig) -> dict[str, Any]:
    """The keyword arguments for `Guard(...)`. A local file may name policies as "module:Class"."""
    further = {} if config.session_from is None else {"session_from": config.session_from}
    return {
        "policies": [_item(each) for each in config.policies],
        "policy_sets": {name: [_item(each) for each in items] for name, items in config.policy_sets.items()},
        "mode": config.mode,
        "on_block": config.on_block,
        "unknown": config.unknown,
        "limits": _limits(config.limits),
        "store": config.store,
        "pubsub": config.pubsub,
        "durability": config.durability,
        "data": config.data,
        "on_unrecorded": config.on_unrecorded,
        "tracing": config.tracing,
        "capture_chunks": config.capture_chunks,
        "allow_paths": True,
        **further,
    }


# ----------------------------------------------------------------------------------------------------------------------


def _compatible(file: YamlFile) -> YamlFile:
    """`policy: {class: "module:Class", config: {...}}`, the form of the system before this one, is one policy."""
    if "policy" not in file.raw:
        return file
    policy = file.raw["policy"]
    if "policies" in file.raw:
        raise ConfigError(f"{file.at(('policy',))}: `policy` and `policies` exclude each other")
    if not isinstance(policy, dict) or not isinstance(policy.get("class"), str):
        raise ConfigError(f'{file.at(("policy",))}: policy needs `class: "module:Class"`')
    for key in policy:
        if key not in ("class", "config"):
            raise ConfigError(
                f"{file.at(('policy', key))}: unknown key{did_you_mean(key, ('class', 'config'))}"
            )
    rest = {key: value for key, value in file.raw.items() if key != "policy"}
    config = policy.get("config")
    item = {"use": policy["class"], "config": {} if config is None else config}
    lines = {**file.lines, **{_moved(place): line for place, line in file.lines.items()}}
    lines[("policies",)] = file.line(("policy",))
    unquoted = frozenset(map(_moved, file.unquoted))
    return replace(file, raw={**rest, "policies": [item]}, lines=lines, unquoted=unquoted)


def _moved(place: Place) -> Place:
    """From `policy` into `policies`."""
    if place[:1] != ("policy",):
        return place
    return ("policies", 0, *("use" if part == "class" else part for part in place[1:2]), *place[2:])


def _validated(raw: dict[str, Any], origins: Origins, path: Path | None) -> GuardConfig:
    def where(place: Place) -> str:
        return origins.near(place) or str(path or "configuration")

    try:
        config = GuardConfig.model_validate(raw)
        for name, value in config.limits.items():
            if problem := _wrong_limit(name, value):
                place = ("limits", name)
                raise ConfigError(f"{where(place)}: {dotted(place)}: {problem}")
    except ValidationError as error:
        raise ConfigError(explained(error, where)) from None
    return config


def _set(raw: dict[str, Any], place: Place, value: Any) -> None:
    target: Any = raw
    for part in place[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            return  # the file is wrong there, and will be told so
    target[place[-1]] = value


def _item(settings: str | PolicySettings) -> Any:
    return settings if isinstance(settings, str) else settings.model_dump(exclude_none=True)


def _wrong_limit(name: str, value: float) -> str | None:
    if name not in Limits.__dataclass_fields__:
        return f"unknown limit {name!r}{did_you_mean(name, Limits.__dataclass_fields__)}"
    return None if not _is_whole(name) or value.is_integer() else "a whole number is expected"


def _limits(given: Mapping[str, float]) -> Limits:
    whole: dict[str, Any] = {name: int(value) if _is_whole(name) else value for name, value in given.items()}
    return Limits(**whole)


def _is_whole(limit: str) -> bool:
    """Half a byte would become none."""
    return Limits.__dataclass_fields__[limit].type == "int"
