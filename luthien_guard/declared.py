"""What a policy says of itself, checked at start: a typo there would turn it off without a word."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import (
    Callable,
    Collection,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
)
from inspect import Parameter
from types import MemberDescriptorType
from typing import Any, Final

from luthien_guard.errors import ConfigError, did_you_mean
from luthien_guard.events import CHANNELS
from luthien_guard.policy import Policy

__all__ = [
    "check_attributes",
    "check_declared",
    "check_function",
    "check_parameters",
    "check_value",
    "held",
    "is_marked",
]

_MUTABLE: Final = (MutableSequence, MutableMapping, MutableSet)
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def held(policy: Policy) -> Iterator[tuple[str, Any]]:
    """What the instance and its class hold, by name; what is computed is not asked for."""
    for name in dir(policy):
        if not hasattr(object, name):
            value = inspect.getattr_static(policy, name, None)
            # one of `__slots__`
            yield name, getattr(policy, name, None) if isinstance(value, MemberDescriptorType) else value


def is_marked(method: object) -> bool:
    # an object that has every attribute (a mock) has no mark
    return isinstance(getattr(method, "luthien_guard_impl", None), dict)


def check_attributes(policy: Policy, name: str, hooks: Collection[str]) -> None:
    """Before it is registered as `name`: methods without their mark, and state that exchanges would share. `hooks`: the
    names of all hooks.

    Raises ConfigError.
    """
    for attribute, value in held(policy):
        # other callables of an instance are its own: `self.on_found = tell`
        ours = attribute in hooks or (attribute.startswith("on_") and hasattr(type(policy), attribute))
        if ours and callable(found := getattr(policy, attribute)) and not is_marked(found):
            raise _unmarked(name, attribute, hooks)
        if isinstance(value, _MUTABLE) and not _is_constant(attribute):
            raise ConfigError(
                f"{name}.{attribute} is a {type(value).__name__}: a policy is shared by all exchanges, so "
                "use a tuple or a frozenset, and keep what changes in ctx.scratchpad"
            )
        if meant := _nearly_declared(policy, attribute, value):
            raise ConfigError(
                f"{name}.{attribute} is nothing that a policy declares: did you mean {meant!r}?"
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
    # in a policy without this hook it may be an attribute of its own
    if "on_tool_call_completed" in hooks:
        check_value("remember", name, getattr(policy, "remember", 0))


def check_value(attribute: str, name: str, value: object) -> None:
    """One that is checked by itself, of the policy `name`, from its class or its settings. Raises ConfigError."""
    fits, allowed = _RULES[attribute]
    if not fits(value):
        raise _wrong(attribute, name, value, allowed)


def check_function(where: str, function: Callable[..., Any], given: tuple[str, ...]) -> None:
    """Of a hook (`given`: its arguments): one that yields would run when somebody asks it for its results, and nobody does;
    of one without `self`, an argument would be the policy. Raises ConfigError."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{where} has a `yield`: it would never run; return what it has to say")
    if inspect.ismethod(function):
        first = next(iter(inspect.signature(function.__func__).parameters), None)
        if first is None or first in given:
            raise ConfigError(
                f"{where}: a method's first parameter is `self`, and here it is {first or 'missing'}"
            )


def check_parameters(where: str, function: Callable[..., Any], given: tuple[str, ...]) -> None:
    """Of a hook, which gets its arguments (`given`, in this order) by name. Raises ConfigError for a parameter that
    would get nothing, or that the call could not fill; one with a default that is no argument keeps its default."""
    parameters = inspect.signature(function).parameters
    for each in parameters.values():
        if each.name not in given and each.default is each.empty and each.kind in _POSITIONAL:
            raise ConfigError(
                f"{where}: there is no argument {each.name!r}{did_you_mean(each.name, given)}: use {', '.join(given)}"
            )
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


def _is_constant(attribute: str) -> bool:
    """Its own, or nobody's who changes it: `WORDS = [...]`, and pydantic's own."""
    return attribute.startswith("_") or attribute.isupper() or attribute in ("channels", "model_config")


def _nearly_declared(policy: Policy, attribute: str, value: object) -> str | None:
    """What of `_DECIDING` an attribute is a misspelling of, with a value that this one takes."""
    if hasattr(Policy, attribute) or attribute.startswith("_"):
        return None
    alike = [each for each, kind in _DECIDING.items() if type(value) is kind]
    return next(iter(difflib.get_close_matches(attribute, alike, n=1, cutoff=0.85)), None)


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
#: What a policy looks at and when it is asked depends on these; with the type of what each takes.
_DECIDING: Final[Mapping[str, type]] = {
    "lookahead": int,
    "hold": str,
    "channels": frozenset,
    "waits": bool,
    "needs_history": bool,
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


def _unmarked(name: str, method: str, hooks: Collection[str]) -> ConfigError:
    if method not in hooks:
        hint = did_you_mean(method, hooks) + "; a method of your own takes a name without `on_`"
        return ConfigError(f"{name}.{method} looks like a hook, and there is no such hook{hint}")
    return ConfigError(
        f"{name}.{method} looks like a hook: mark it with @hookimpl (above other decorators, but below @staticmethod and "
        "@classmethod)"
    )


def _wrong(attribute: str, name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{attribute} of {name} is {value!r}: use {allowed}")


def _unheard(attribute: str, name: str, value: object, hook: str) -> ConfigError:
    return ConfigError(
        f"{attribute} of {name} is {value!r}, but it has no hook {hook}: nothing would come of it"
    )
