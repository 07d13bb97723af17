"""A YAML file with the line of every value, and without surprises: no duplicate keys, no tags, no aliases that explode."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from luthien_guard.errors import ConfigError

__all__ = ["Place", "YamlFile", "read_yaml"]

#: Where a value stands: keys and list positions from the top, `("upstreams", 0, "api_key")`.
Place: TypeAlias = tuple[str | int, ...]
_LARGEST: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What stands in a file. `lines`: for each place the line, counted from 1, of its key or list item."""

    path: Path
    raw: dict[str, Any]
    lines: Mapping[Place, int]
    text: str = field(default="", repr=False)

    def line(self, place: Place) -> int:
        """The line of the innermost thing around `place` that the file has."""
        return next(
            (self.lines[place[:size]] for size in range(len(place), -1, -1) if place[:size] in self.lines), 1
        )

    def at(self, place: Place) -> str:
        """`guard.yaml:7`, as editors open it."""
        return f"{self.path}:{self.line(place)}"


def read_yaml(path: Path) -> YamlFile:
    """Raises ConfigError that names the file and, where there is one, the line."""
    text = _text(path)
    try:
        node = yaml.compose(text, Loader=_Loader)
        _refuse_aliases(text)
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a mapping is expected, with `policies:`")
    return YamlFile(path, raw, _lines(node), text)


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys: the last one winning in silence is no way to configure a guard."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {name!r} is no text: quote it", problem_mark=key.start_mark
                )
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {name!r}", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path}: more than {_LARGEST} bytes are no configuration")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None


def _refuse_aliases(text: str) -> None:
    """An alias of an alias grows a small file without bound, and makes two places out of one line."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not supported", problem_mark=mark)


def _lines(node: Any, at: Place = ()) -> dict[Place, int]:
    found: dict[Place, int] = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found.update(_lines(value, (*at, key.value)))
            found[(*at, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found.update(_lines(value, (*at, number)))
    return found
