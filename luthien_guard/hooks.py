"""The hooks of a policy, as they are called: found by their mark, checked, compiled once.

Everything that an author can get wrong about a hook is told here, at start.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pluggy

from luthien_guard import hookspecs
from luthien_guard.declared import (
    check_attributes,
    check_declared,
    check_function,
    check_parameters,
    held,
    is_marked,
)
from luthien_guard.errors import ConfigError, did_you_mean, told
from luthien_guard.policy import ErrorMode, Mode, Policy

__all__ = ["HOOKS", "HookCall", "Registered", "calls_of"]

HOOKS: Final = tuple(name for name in vars(hookspecs) if name.startswith("on_"))
_ARGUMENTS: Final = {hook: tuple(inspect.signature(getattr(hookspecs, hook)).parameters) for hook in HOOKS}
#: Hooks that no lane watches: each call has a deadline of its own.
_ON_REQUEST: Final = frozenset({"on_request_started", "on_request_completed"})
#: Hooks that come when there is nothing left to decide about.
_AFTER_ALL: Final = frozenset({"on_error", "on_exchange_closed"})
_MARKS: Final = pluggy.PluginManager("luthien_guard")


@dataclass(frozen=True, slots=True)
class Registered:
    """A policy as configured: what it is called, how strict it is, what happens when it fails."""

    policy: Policy
    name: str
    mode: Mode = "enforce"
    on_error: ErrorMode = "block"
    timeout: float | None = None
    #: Neighbours of the same group are asked at the same time.
    group: str | None = None
    #: What it was made of; None for an instance. It may hold secrets.
    config: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class HookCall:
    """One hook of one policy, ready to be called with all arguments of the hook in order."""

    registered: Registered
    hook: str
    function: Callable[..., Any]
    position: int  # of the policy in the configuration
    is_async: bool
    tier: int = 0  # -1 tryfirst, 1 trylast
    #: Of a group: the calls that are made at the same time in place of this one.
    members: tuple[HookCall, ...] = ()
    #: Each call gets a scope of its own: it waits for others, its failure is forgiven, or nobody else looks after it.
    timed: bool = field(init=False)
    #: What it says counts.
    enforces: bool = field(init=False)
    #: It is in shadow and waits: it is asked beside the answer, which does not wait for it.
    aside: bool = field(init=False)

    def __post_init__(self) -> None:
        policy, registered = self.registered.policy, self.registered
        late = self.hook in _AFTER_ALL or (self.hook == "on_response_completed" and policy.hold != "response")
        enforces = registered.mode == "enforce" and not late
        timed = policy.waits or registered.on_error == "allow" or self.hook in _ON_REQUEST
        if not enforces:  # who has no say may not end the answer by taking too long
            timed = self.hook != "on_exchange_closed"  # the shell's own time for closing is over that one
        object.__setattr__(self, "timed", timed)
        object.__setattr__(self, "enforces", enforces)
        aside = policy.waits and registered.mode == "shadow" and self.hook not in _ON_REQUEST | _AFTER_ALL
        object.__setattr__(self, "aside", aside)

    @property
    def each(self) -> tuple[HookCall, ...]:
        """The calls of single policies."""
        return self.members or (self,)


def calls_of(registered: Registered, position: int) -> list[HookCall]:
    """Those of one policy. Raises ConfigError."""
    policy, name = registered.policy, registered.name
    try:
        check_attributes(policy, name, HOOKS)
        marked = [*_marked(policy, name)]
    except ConfigError:
        raise
    except Exception as error:  # also a property that fails when it is looked at
        raise ConfigError(f"policy {name}: {told(error)}") from error
    check_declared(policy, name, {hook for hook, _, _ in marked})
    return [
        HookCall(
            registered,
            hook,
            _with_arguments(function, _ARGUMENTS[hook]),
            position,
            inspect.iscoroutinefunction(function),
            tier,
        )
        for hook, function, tier in marked
        if registered.mode != "off" and _listens(registered, hook)
    ]


def _marked(policy: Policy, name: str) -> Iterator[tuple[str, Callable[..., Any], int]]:
    """(hook, function, tier) of each method with the mark; pluggy knows the mark, and what it can stand on."""
    for attribute, value in held(policy):
        marks = _MARKS.parse_hookimpl_opts(policy, attribute)
        if marks is not None:
            hook, function = marks.get("specname") or attribute, getattr(policy, attribute)
            _check_hook(name, hook, function, marks)
            yield hook, function, bool(marks.get("trylast")) - bool(marks.get("tryfirst"))
        elif is_marked(value):
            raise ConfigError(
                f"{name}.{attribute} has the mark of a hook, and would never be called: it is a {type(value).__name__}, "
                "and not a function; define a method, and mark that one with @hookimpl"
            )


def _check_hook(name: str, hook: str, function: Callable[..., Any], marks: Mapping[str, Any]) -> None:
    where = f"{name}.{hook}"
    if hook not in HOOKS:
        raise ConfigError(f"policy {name} implements an unknown hook {hook!r}{did_you_mean(hook, HOOKS)}")
    if marks.get("wrapper") or marks.get("hookwrapper"):
        raise ConfigError(f"{where}: wrappers cannot span what hooks await; use two hooks")
    check_function(where, function, _ARGUMENTS[hook])
    check_parameters(where, function, _ARGUMENTS[hook])


def _listens(registered: Registered, hook: str) -> bool:
    """A `listens` that forgets to return something would turn the hook off."""
    heard: object = registered.policy.listens(hook)
    if not isinstance(heard, bool):
        raise ConfigError(f"{registered.name}.listens({hook!r}) returned {heard!r}: return True or False")
    return heard


def _with_arguments(function: Callable[..., Any], given: tuple[str, ...]) -> Callable[..., Any]:
    """Hooks may take any subset of the arguments: adapt once, here, not at every call."""
    parameters = tuple(inspect.signature(function).parameters)
    wanted = tuple(name for name in parameters if name in given)
    if parameters[: len(given)] == given:
        return function
    if wanted == parameters[:1] == given[:1] and len(given) == 2:

        def first(event: Any, _: Any) -> Any:
            return function(event)

        return first
    places = [given.index(name) for name in wanted]
    return lambda *arguments: function(**{given[at]: arguments[at] for at in places})
