"""What a policy's `config` may hold: a key that nobody reads is an error, as the policy may be off without it.

pydantic is not imported here: that takes longer than all of ours, and most policies have no model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from luthien_guard.errors import ConfigError, did_you_mean

__all__ = ["check_arguments", "validated"]


class _UnknownKey(ConfigError, ValueError):
    def __init__(self, key: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown key {key!r}{did_you_mean(key, known)}", (key,))


def check_arguments(made: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Of a policy without a model. Python would say which argument is unknown, but not what was meant. Raises ValueError."""
    parameters = inspect.signature(made).parameters
    if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
        for key in given:
            if key not in parameters:
                raise _UnknownKey(key, parameters)


def validated(model: Any, given: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """The settings of the class `policy`, as its pydantic model gives them. Raises TypeError or ValueError."""
    if not (isinstance(model, type) and hasattr(model, "model_fields")):
        raise TypeError(f"`Config` of {policy} is {model!r}: a pydantic model is expected")
    _check_keys(model, given)
    made = model(**given)
    _check_inner_keys(made, given)
    return dict(made)


def _check_keys(model: type[Any], given: Mapping[str, Any]) -> None:
    """pydantic passes over what it does not know, and a policy that misses a setting may be off. Raises ValueError."""
    settings = getattr(model, "model_config", {"extra": None})
    if "extra" in settings:
        return
    by_name = settings.get("populate_by_name") or settings.get("validate_by_name")
    known: set[str] = set()
    for name, field in model.model_fields.items():
        aliases = _aliases(field.validation_alias)
        known |= {name, *aliases} if by_name or not aliases else aliases
    for key in given:
        if key not in known:
            raise _UnknownKey(key, known)


def _aliases(alias: Any) -> set[str]:
    """Of a text, an AliasPath or an AliasChoices: the keys at the top."""
    choices = [] if alias is None else getattr(alias, "choices", [alias])
    return {str(each.path[0]) if hasattr(each, "path") else str(each) for each in choices}


def _check_inner_keys(value: Any, given: Any) -> None:
    """The same for the models inside of a model: `value` is what was made of `given`. Raises ValueError."""
    if isinstance(given, Mapping) and hasattr(type(value), "model_fields"):
        _check_keys(type(value), given)
        for name, field in type(value).model_fields.items():
            for spelling in (name, field.validation_alias):
                if isinstance(spelling, str) and spelling in given:
                    _check_inner_keys(getattr(value, name), given[spelling])
    elif isinstance(given, Mapping) and isinstance(value, Mapping):
        for key in given.keys() & value.keys():
            _check_inner_keys(value[key], given[key])
    elif isinstance(given, (list, tuple)) and isinstance(value, (list, tuple)):
        for each, made_of in zip(value, given, strict=False):
            _check_inner_keys(each, made_of)
