"""The policies of a guard, compiled: those of all callers, and those of each set for the callers who were given it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luthien_guard.delivery.credentials import secrets_of_settings
from luthien_guard.engine.plan import Plan
from luthien_guard.errors import ConfigError

__all__ = ["listed", "plans", "secrets_of", "sets_of"]


def plans(
    policies: Any, policy_sets: Any = None, *, mode: str = "enforce", allow_paths: bool = False
) -> dict[str | None, Plan]:
    """Of each set the policies of all and its own; of None those of all. `policies` and `policy_sets` are what `Guard`
    was given. Raises ConfigError, with the policy's place where it is about one."""
    own = listed("policies", policies)
    found: dict[str | None, Plan] = {}
    for name, further in [(None, []), *sets_of(policy_sets).items()]:
        try:
            found[name] = Plan([*own, *further], mode=mode, allow_paths=allow_paths)
        except ConfigError as error:
            if error.place:
                error.place = _placed(int(error.place[0]), len(own), name) + error.place[1:]
            raise
    return found


def _placed(at: int, own: int, name: str | None) -> tuple[str | int, ...]:
    return ("policies", at) if name is None or at < own else ("policy_sets", name, at - own)


def secrets_of(plans: Iterable[Plan]) -> Iterable[str]:
    """What the policies were given to open doors with: whom they ask may say it again."""
    for each in (each for plan in plans for each in plan.registered):
        yield from secrets_of_settings([each.config, getattr(each.policy, "__dict__", None)])


def sets_of(policy_sets: object) -> dict[str, list[Any]]:
    if policy_sets is None:
        return {}
    if not isinstance(policy_sets, Mapping):
        raise ConfigError(f"policy_sets is a {type(policy_sets).__name__}: give a mapping, by name")
    for name in policy_sets:
        if not isinstance(name, str):
            raise ConfigError(f"policy_sets has {name!r}: the name of a set is a str")
    return {name: listed(f"policy_sets[{name!r}]", items) for name, items in policy_sets.items()}


def listed(name: str, policies: object) -> list[Any]:
    """One policy alone is no list of policies, and neither are the letters of its name."""
    if isinstance(policies, (str, bytes, Mapping)) or not isinstance(policies, Iterable):
        raise ConfigError(f"{name} is a {type(policies).__name__}: give a list, even of one policy")
    return list(policies)
