"""Which policies a guard has: found by name, checked, put in order. One registry per guard, never global.

Installed does not mean active: an entry point only makes a name available; the guard's configuration activates it.
Everything that a deployer can get wrong is told here, at start.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar, get_args

from luthien_guard.declared import check_value
from luthien_guard.errors import ConfigError, did_you_mean, told
from luthien_guard.hooks import HOOKS, HookCall, Registered, calls_of
from luthien_guard.policy import ErrorMode, Mode, Policy

__all__ = ["GROUP", "available", "build"]

T = TypeVar("T")
GROUP: Final = "luthien_guard.policies"
_SETTINGS: Final = frozenset({"use", "config", "mode", "on_error", "timeout", "name", "group"})


@cache
def available() -> dict[str, EntryPoint]:
    """The policies that are installed, by name. Looked for once: it reads the metadata of every installed package."""
    return {each.name: each for each in entry_points(group=GROUP)}


def build(
    items: Iterable[Any], *, allow_paths: bool = False
) -> tuple[list[Registered], dict[str, list[HookCall]]]:
    """Policies in configuration order, and for each hook its calls in the order in which they run.

    `items`: Policy instances, entry-point names, or mappings `{"use": name, "config": {...}, "mode": ...,
    "on_error": ..., "timeout": ..., "name": ..., "group": ...}`. `allow_paths` lets `use` be "module:Class" (a local file only:
    loading code by name from anywhere else is an attack). Raises ConfigError; its place begins with the item's number.
    """
    registered = _numbered([_at(at, _resolve, item, allow_paths) for at, item in enumerate(items)])
    _check_groups(registered)
    found = [call for at, each in enumerate(registered) for call in _at(at, calls_of, each, at)]
    # not pluggy's order, which runs another way in each tier
    found.sort(key=lambda call: (call.tier, call.position))
    return registered, {hook: [call for call in found if call.hook == hook] for hook in HOOKS}


# -- from configuration to instances -----------------------------------------------------------------------------------


def _at(position: int, work: Callable[..., T], *arguments: Any) -> T:
    try:
        return work(*arguments)
    except ConfigError as error:
        error.place = (position, *error.place)
        raise


def _resolve(item: Any, allow_paths: bool) -> Registered:
    if isinstance(item, str):
        return _from_mapping({"use": item}, allow_paths)
    if isinstance(item, Mapping):
        return _from_mapping(item, allow_paths)
    if inspect.isclass(item):
        raise ConfigError(f"{item.__name__} is a class: give an instance, {item.__name__}(...)")
    if not isinstance(item, Policy):
        raise ConfigError(f"{item!r} is no policy: subclass luthien_guard.Policy")
    return Registered(item, _name_of(item), timeout=item.timeout)


def _from_mapping(item: Mapping[str, Any], allow_paths: bool) -> Registered:
    if unknown := set(item) - _SETTINGS:
        key = min(unknown, key=str)
        raise ConfigError(f"unknown key {key!r}{did_you_mean(key, _SETTINGS)} in a policy's settings")
    policy, name, config = _used(item.get("use"), item.get("config"), allow_paths)
    mode = _one_of("mode", name, item.get("mode", "enforce"), get_args(Mode))
    on_error = _one_of("on_error", name, item.get("on_error", "block"), get_args(ErrorMode))
    timeout = item.get("timeout", policy.timeout)
    check_value("timeout", name, timeout)
    for setting in ("name", "group"):
        if item.get(setting) is not None:
            check_value(setting, name, item[setting])
    return Registered(policy, item.get("name") or name, mode, on_error, timeout, item.get("group"), config)


def _used(use: Any, config: Any, allow_paths: bool) -> tuple[Policy, str, Mapping[str, Any] | None]:
    """The policy, what it is called unless its settings say otherwise, and what it was made of (None for an instance)."""
    if isinstance(use, str):
        given = _mapping(config, use)
        return _make(use, given, allow_paths), use.rpartition(":")[2], given
    if inspect.isclass(use):
        raise ConfigError(f"`use` is the class {use.__name__}: give an instance, {use.__name__}(...)")
    if not isinstance(use, Policy):
        raise ConfigError("a policy's settings need `use`: the name of an installed policy, or an instance")
    name = _name_of(use)
    if config is not None and config != {}:
        raise ConfigError(f"config of {name}: nobody reads it, as `use` is an instance: configure that one")
    return use, name, None


def _one_of(setting: str, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        *others, last = allowed
        raise ConfigError(f"{setting} of {name} is {value!r}: use {', '.join(others)} or {last}")
    return value


def _mapping(config: Any, use: str) -> Mapping[str, Any]:
    """Only None means none: `config: no` would run the policy without what somebody wrote for it."""
    if config is not None and not isinstance(config, Mapping):
        raise ConfigError(f"config of {use} is a {type(config).__name__}: give a mapping", ("config",))
    return {} if config is None else config


def _make(use: str, config: Mapping[str, Any], allow_paths: bool) -> Policy:
    found = available().get(use)
    if found is None and ":" in use and allow_paths:
        module, _, attribute = use.partition(":")
        found = EntryPoint(name=attribute, value=f"{module}:{attribute}", group=GROUP)
    if found is None:
        hint = "; a class by its path is loaded with allow_paths=True only" if ":" in use else ""
        raise ConfigError(f"no policy {use!r}{did_you_mean(use, available())} is installed{hint}", ("use",))
    try:
        made = found.load()
    except Exception as error:  # its module is other people's code
        said = str(error) if isinstance(error, (ImportError, AttributeError)) else told(error)
        raise ConfigError(f"policy {use!r} cannot be loaded: {said}", ("use",)) from error
    if not (inspect.isclass(made) and issubclass(made, Policy)):
        raise ConfigError(f"policy {use!r} is {made!r}, not a subclass of luthien_guard.Policy", ("use",))
    try:
        return made.from_config(config)
    except Exception as error:  # noqa: BLE001 -- it is other people's code
        said, place = _problem(error)
        said = f"configuration of policy {use!r}: {' '.join(said.split())}"
        # pydantic's error quotes what was given, which may hold a key, and this is logged
        raise ConfigError(said, ("config", *place)) from (None if _is_pydantics(error) else error)


def _problem(error: Exception) -> tuple[str, tuple[str | int, ...]]:
    """In words, and where in the configuration."""
    if _is_pydantics(error):
        found = error.errors(include_input=False, include_url=False)  # type: ignore[attr-defined]
        lines = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in found)
        return "; ".join(lines), found[0]["loc"]
    said = str(error) if isinstance(error, (TypeError, ValueError)) else told(error)
    return said, getattr(error, "place", ())


def _is_pydantics(error: Exception) -> bool:
    """Without its import, which takes longer than all of ours."""
    return type(error).__module__.startswith("pydantic") and hasattr(error, "errors")


def _numbered(registered: Sequence[Registered]) -> list[Registered]:
    """The same policy may stand twice with two configurations; records need to tell them apart."""
    if len({id(each.policy) for each in registered}) != len(registered):
        raise ConfigError("the same policy instance stands twice: make two instances")
    seen: dict[str, int] = {}
    result: dict[str, Registered] = {}
    for each in registered:
        seen[each.name] = count = seen.get(each.name, 0) + 1
        name = each.name if count == 1 else f"{each.name}#{count}"
        if name in result:
            raise ConfigError(f"two policies are called {name!r}: give each a name of its own")
        result[name] = replace(each, name=name)
    return [*result.values()]


def _name_of(policy: Policy) -> str:
    """What an instance is called; `check_declared` tells one whose name is no text."""
    named = isinstance(policy.name, str) and policy.name
    return named or _kebab(type(policy).__name__)


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_groups(registered: Sequence[Registered]) -> None:
    """What a slip would turn into policies that are asked in turn."""
    before: list[str | None] = [None]
    for at, each in enumerate(registered):
        if each.group is not None and not each.policy.waits:
            raise ConfigError(
                f"{each.name} is in the group {each.group!r} and waits for nobody: only policies with "
                "`waits = True` gain by being asked at once",
                (at,),
            )
        if each.group is not None and each.group != before[-1] and each.group in before:
            raise ConfigError(f"the policies of the group {each.group!r} have to stand together", (at,))
        before.append(each.group)
