"""`guard.yaml`: strict, with the line of what is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from luthien_guard.config.settings import GuardConfig, PolicySettings
from luthien_guard.errors import ConfigError
from luthien_guard.limits import Limits

__all__ = ["GuardConfig", "config_from_environment", "read_config"]

VARIABLE: Final = "POLICY_CONFIG"


def config_from_environment() -> Path | None:
    """The file that `POLICY_CONFIG` names."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def read_config(path: Path) -> dict[str, Any]:
    """The arguments for `Guard(...)`. A local file may name policies as "module:Class". Raises ConfigError."""
    raw, lines = _load(path)
    if "policy" in raw:
        raw = {
            **{key: value for key, value in raw.items() if key != "policy"},
            "policies": [_old(raw["policy"], path)],
        }
    try:
        config = GuardConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(path, error, lines)) from None
    return {
        "policies": [_item(each) for each in config.policies],
        "mode": config.mode,
        "on_block": config.on_block,
        "unknown": config.unknown,
        "limits": _limits(config.limits, path),
        "allow_paths": True,
    }


def _item(settings: str | PolicySettings) -> Any:
    return settings if isinstance(settings, str) else settings.model_dump(exclude_none=True)


def _old(policy: Any, path: Path) -> dict[str, Any]:
    if not isinstance(policy, dict) or not isinstance(policy.get("class"), str):
        raise ConfigError(f'{path}: policy needs `class: "module:Class"`')
    return {"use": policy["class"], "config": policy.get("config") or {}}


def _limits(given: dict[str, float], path: Path) -> Limits:
    known = {field.name: field.type for field in dataclasses.fields(Limits)}
    for name in given:
        if name not in known:
            raise ConfigError(f"{path}: unknown limit {name!r}{_close(name, known)}")
    whole: dict[str, Any] = {
        name: int(value) if known[name] == "int" else value for name, value in given.items()
    }
    return Limits(**whole)


# -- YAML with lines, and without surprises ----------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys: the last one winning in silence is no way to configure a guard."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {name!r}", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _load(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a mapping is expected, with `policies:`")
    return raw, _lines(node)


def _lines(node: Any, at: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    found = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found.update(_lines(value, (*at, key.value)))
            found[(*at, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found.update(_lines(value, (*at, number)))
    return found


def _explain(path: Path, error: ValidationError, lines: dict[tuple[Any, ...], int]) -> str:
    problems = []
    for each in error.errors():
        # pydantic puts the tried union member into the location; the file does not have it
        place = tuple(part for part in each["loc"] if part not in ("str", "PolicySettings"))
        where = next((lines[place[:size]] for size in range(len(place), -1, -1) if place[:size] in lines), 1)
        if "str" in each["loc"][-1:]:
            continue
        name = ".".join(str(part) for part in place)
        problem = each["msg"]
        if each["type"] == "extra_forbidden":
            known = PolicySettings.model_fields if len(place) > 1 else GuardConfig.model_fields
            problem = f"unknown key{_close(name.rpartition('.')[2], known)}"
        problems.append(f"{path}:{where}: {name}: {problem}")
    return "\n".join(problems)


def _close(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
