"""The signature of litellm's function on a function of ours, read from litellm only when somebody asks for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from luthien_guard.client.litellm_api import function

__all__ = ["bound", "signed_like"]


class _Borrowed(inspect.Signature):
    """A signature whose parts are looked up at each use: `inspect` demands a real one, and making one imports
    litellm."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @property
    def _real(self) -> inspect.Signature:
        return inspect.signature(function(self._name))

    @property
    def parameters(self) -> Any:
        return self._real.parameters

    @property
    def return_annotation(self) -> Any:
        return self._real.return_annotation

    def replace(self, **changes: Any) -> inspect.Signature:  # type: ignore[override]
        return self._real.replace(**changes)

    def __reduce__(self) -> Any:
        return _Borrowed, (self._name,)


def signed_like(name: str) -> Callable[[Any], Any]:
    """Decorate a `(*args, **kwargs)` function with the signature of `litellm.<name>`."""

    def sign(signed: Any) -> Any:
        signed.__signature__ = _Borrowed(name)
        return signed

    return sign


def bound(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `litellm.<name>` by name. Raises TypeError as the call itself would."""
    if not args:
        return dict(kwargs)
    parameters = inspect.signature(function(name)).parameters.values()
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    if len(args) > len(names):
        raise TypeError(f"{name}() takes {len(names)} positional arguments but {len(args)} were given")
    given = dict(zip(names, args, strict=False))
    for double in sorted(given.keys() & kwargs.keys()):
        raise TypeError(f"{name}() got multiple values for argument {double!r}")
    return {**given, **kwargs}
