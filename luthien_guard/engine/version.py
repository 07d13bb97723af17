"""Under which policies an exchange ran, in twelve hex digits: the same wherever the same is configured."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from luthien_guard.hooks import Registered

__all__ = ["version_of", "versions_of"]

_DEPTH: Final = 16  # levels of a configuration; what is deeper counts by its type
_SIMPLE: Final = (str, int, float, bool, type(None))


def version_of(registered: Iterable[Registered], mode: str) -> str:
    """Of policies in their order: their class, name, configuration and strictness. `mode`: of the guard."""
    return _short([mode, [_facts(each) for each in registered]])


def versions_of(named: Mapping[str | None, str]) -> str:
    """Of several sets of policies, by their versions; of the only one, its own."""
    if len(named) == 1:
        return next(iter(named.values()))
    return _short(sorted((name or "", name is None, version) for name, version in named.items()))


def _facts(each: Registered) -> list[Any]:
    kind = type(each.policy)
    config = each.config if each.config is not None else getattr(each.policy, "__dict__", {})
    strictness = [each.mode, each.on_error, each.timeout, *([] if each.group is None else [each.group])]
    return [each.name, f"{kind.__module__}:{kind.__qualname__}", _plain(config, _DEPTH), *strictness]


def _plain(value: Any, depth: int) -> Any:
    """As JSON, without what differs from process to process (addresses, the order of a set)."""
    if isinstance(value, _SIMPLE):
        return value
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    if depth == 0:
        return kind
    if isinstance(value, Mapping):
        return {str(name): _plain(each, depth - 1) for name, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(each, depth - 1) for each in value), key=_text)
    if isinstance(value, (list, tuple)):
        return [_plain(each, depth - 1) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, re.Pattern):
        return [value.pattern if isinstance(value.pattern, str) else value.pattern.hex(), value.flags]
    return [kind, _parts(value, depth)]


def _parts(value: Any, depth: int) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _plain(fields, depth - 1)
    dump = getattr(value, "model_dump", None)  # of pydantic
    if callable(dump) and not isinstance(value, type):
        return _plain(dump(), depth - 1)
    name = getattr(value, "__qualname__", None)  # of functions and classes; of other objects the type is all
    return name if isinstance(name, str) else None


def _short(facts: Any) -> str:
    return hashlib.sha256(_text(facts).encode()).hexdigest()[:12]


def _text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))
