"""Sample values of the SDKs' own types: one with every field filled, and one more for each member of each union."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str | int, ...]
DEPTH = 6


@cache
def _hints(model: type[BaseModel]) -> dict[str, Any]:
    return {(field.alias or name): field.annotation for name, field in model.model_fields.items()}


def samples(of: Any, depth: int = 0) -> list[Any]:
    """The first is the plainest; each of the others differs from it by one choice."""
    origin, arguments = get_origin(of), get_args(of)
    if origin is Annotated:
        return samples(arguments[0], depth)
    if origin in (Union, types.UnionType):
        return [one for each in arguments if each is not type(None) for one in samples(each, depth)] or [None]
    if origin is Literal:
        return [arguments[0]]
    if origin in (list, typing.Iterable) or (inspect.isclass(origin) and issubclass(origin, list)):
        return [[one] for one in samples(arguments[0], depth)] if depth < DEPTH else [[]]
    if origin is dict:
        return [{"k": one} for one in samples(arguments[1], depth)]
    if inspect.isclass(of) and issubclass(of, BaseModel):
        return _models(of, depth)
    if hasattr(of, "__value__"):
        return samples(of.__value__, depth)
    return {str: ["s"], int: [1], float: [0.5], bool: [True], bytes: ["s"]}.get(of, [{"k": "s"}])


def _models(model: type[BaseModel], depth: int) -> list[Any]:
    if depth >= DEPTH:
        return [{}]
    found = {name: samples(hint, depth + 1) for name, hint in _hints(model).items()}
    plain = {name: each[0] for name, each in found.items()}
    others = [{**plain, name: one} for name, each in found.items() for one in each[1:]]
    return [plain, *others]


def string_paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Where the strings of a value stand."""
    if isinstance(value, str):
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from string_paths(inner, (*at, key))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy with one place changed."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def _kinds(value: Any, path: Path) -> tuple[str, ...]:
    """The `type` of every object on the way: the same path in another member of a union is another place."""
    found = []
    for key in (None, *path):
        value = value if key is None else value[key]
        if isinstance(value, dict):
            found.append(str(value.get("type", "")))
    return tuple(found)


def tainted(of: Any, marker: str) -> dict[Any, Any]:
    """For each string place of a type: a sample with the marker there."""
    found: dict[Any, Any] = {}
    for sample in samples(of):
        for path in string_paths(sample):
            key = (path, _kinds(sample, path))
            if key not in found:
                found[key] = replaced(sample, path, marker)
    return found
