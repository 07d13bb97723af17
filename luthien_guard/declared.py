"""What a policy says of itself, checked at start: a typo there would turn it off without a word."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from typing import Any, Final

from luthien_guard.errors import ConfigError, did_you_mean
from luthien_guard.events import CHANNELS
from luthien_guard.policy import Policy

__all__ = ["check_attributes", "check_declared", "check_function", "check_parameters", "check_value"]

_MUTABLE: Final = (list, dict, set, bytearray)
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_attributes(policy: Policy, name: str, hooks: Collection[str]) -> None:
    """Before it is registered as `name`: methods without their mark, and state that exchanges would share. `hooks`: the
    names of all hooks.

    Raises ConfigError.
    """
    for method in dir(type(policy)):
        if method.startswith("on_") and callable(found := getattr(policy, method)) and not _is_marked(found):
            raise _unmarked(name, method)
    for attribute, value in vars(policy).items():
        # other callables are its own: `self.on_found = tell`
        if attribute in hooks and callable(value) and not _is_marked(value):
            raise _unmarked(name, attribute)
        if not attribute.startswith("_") and isinstance(value, _MUTABLE):
            raise ConfigError(
                f"{name}.{attribute} is a {type(value).__name__}: a policy is shared by all exchanges, so "
                "use a tuple or a frozenset, and keep what changes in ctx.scratchpad"
            )


def check_declared(policy: Policy, name: str, hooks: Collection[str]) -> None:
    """What it declares for the engine. `hooks`: those that it implements. Raises ConfigError."""
    for attribute in ("name", "lookahead", "waits", "asks_judge", "needs_history", "timeout"):
        check_value(attribute, name, getattr(policy, attribute))
    _check_hold(policy.hold, name)
    _check_channels(policy.channels, name)
    if policy.hold and "on_response_completed" not in hooks:
        raise _unheard("hold", name, policy.hold, "on_response_completed")
    if policy.lookahead and "on_content_chunk" not in hooks:
        raise _unheard("lookahead", name, policy.lookahead, "on_content_chunk")
    # of other policies it is an attribute of their own
    if "on_tool_call_completed" in hooks:
        check_value("remember", name, getattr(policy, "remember", 0))


def check_value(attribute: str, name: str, value: object) -> None:
    """One that is checked by itself, of the policy `name`, from its class or its settings. Raises ConfigError."""
    fits, allowed = _RULES[attribute]
    if not fits(value):
        raise _wrong(attribute, name, value, allowed)


def check_function(where: str, function: Callable[..., Any]) -> None:
    """Of a hook: one that yields would run when somebody asks it for its results, and nobody does. Raises
    ConfigError."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{where} has a `yield`: it would never run; return what it has to say")


def check_parameters(where: str, function: Callable[..., Any], given: tuple[str, ...]) -> None:
    """Of a hook, which gets its arguments (`given`, in this order) by name. Raises ConfigError for a parameter that
    would get nothing, or that the call could not fill; one with a default that is no argument keeps its default."""
    parameters = inspect.signature(function).parameters
    named = [each.name for each in parameters.values() if each.kind not in _VARIADIC and each.name in given]
    in_order = [*parameters][: len(named)] == [*given[: len(named)]]
    for each in parameters.values():
        if (
            (each.kind in _VARIADIC and len(named) < len(given))
            or (each.kind is Parameter.POSITIONAL_ONLY and not in_order)
            or (each.kind is Parameter.KEYWORD_ONLY and (each.name in given or each.default is each.empty))
        ):
            raise ConfigError(
                f"{where}: parameter {each.name!r} is {each.kind.description}: a hook takes its arguments by name, "
                f"as plain parameters: {', '.join(given)}"
            )


def _is_marked(method: object) -> bool:
    return getattr(method, "luthien_guard_impl", None) is not None


def _is_seconds(value: object) -> bool:
    """NaN is neither above nor below anything."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


_RULES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "name": (lambda value: isinstance(value, str), "a str"),
    "lookahead": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "a whole number of characters, 0 or more",
    ),
    "waits": (lambda value: isinstance(value, bool), "True or False"),
    "asks_judge": (lambda value: isinstance(value, bool), "True or False"),
    "needs_history": (lambda value: isinstance(value, bool), "True or False"),
    "timeout": (
        lambda value: value is None or (_is_seconds(value) and value > 0),
        "a finite number of seconds, more than 0, or None for the guard's default",
    ),
    "group": (lambda value: isinstance(value, str) and value != "", "a str that is not empty"),
    "remember": (_is_seconds, "a finite number of seconds, 0 or more"),
}


def _check_hold(hold: object, name: str) -> None:
    if hold not in ("", "response", None):
        raise ConfigError(
            f"hold of {name} is {hold!r}{did_you_mean(hold, ['response'])}: use 'response' or ''"
        )


def _check_channels(channels: object, name: str) -> None:
    known = ", ".join(CHANNELS)
    if channels is None:
        return
    if not isinstance(channels, (frozenset, set, tuple)):
        raise _wrong("channels", name, channels, f"None or a frozenset of {known}")
    if not channels:
        raise _wrong("channels", name, channels, "None for all channels; with none it would look at nothing")
    for channel in channels:
        if channel not in CHANNELS:
            raise ConfigError(
                f"channels of {name} has {channel!r}{did_you_mean(channel, CHANNELS)}: use {known}"
            )


def _unmarked(name: str, method: str) -> ConfigError:
    return ConfigError(f"{name}.{method} looks like a hook: mark it with @hookimpl")


def _wrong(attribute: str, name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{attribute} of {name} is {value!r}: use {allowed}")


def _unheard(attribute: str, name: str, value: object, hook: str) -> ConfigError:
    return ConfigError(
        f"{attribute} of {name} is {value!r}, but it has no hook {hook}: nothing would come of it"
    )
