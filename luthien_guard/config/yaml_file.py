"""YAML with the line of every value, and without surprises: no duplicate keys, no tags, no aliases that explode, nothing
that another reader takes for something else."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from luthien_guard.config.scalars import WORD, ScalarLoader, ambiguous_word, scalar
from luthien_guard.errors import ConfigError

__all__ = ["Place", "Stamp", "YamlFile", "is_untyped", "read_scalar", "read_value", "read_yaml", "stamp_of"]

#: Where a value stands: keys and list positions from the top, `("upstreams", 0, "api_key")`.
Place: TypeAlias = tuple[str | int, ...]
#: Of one state of a file: when it was changed (ns), its bytes, its inode.
Stamp: TypeAlias = tuple[int, int, int]
_LARGEST: Final = 1024 * 1024
#: Of YAML 1.1, which our parser reads; not of YAML 1.2, nor for most editors.
_LINE_END_OF_SOME: Final = re.compile("[\x85\u2028\u2029]")
_DEEPEST: Final = 64  # lists and mappings inside each other: what reads them is recursive
#: Where mappings stand whose values have no type that says what a text means: first key -> place in the path -> key.
_UNTYPED: Final = {
    "policy": (1, "config"),
    "policies": (2, "config"),
    "policy_sets": (3, "config"),
    "upstreams": (2, "litellm"),
}


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What stands in a file. `lines`: for each place the line, counted from 1, of its key or list item. `unquoted`: the
    places of values without quotes. `stamp`: of the file before it was read, so that it shows whether it has changed
    since."""

    path: Path
    raw: dict[str, Any]
    lines: Mapping[Place, int]
    unquoted: frozenset[Place] = frozenset()
    text: str = field(default="", repr=False)
    stamp: Stamp | None = None

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
    stamp, text = stamp_of(path), _text(path)
    try:
        nodes, raw = _loaded(text)
    except yaml.YAMLError as error:
        line, problem = _problem(error, text)
        raise ConfigError(f"{path}:{line}: {problem}" if line else f"{path}: {problem}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a mapping is expected, with `policies:`")
    unquoted = frozenset(place for place, _, node in nodes if _is_plain(node))
    return YamlFile(path, raw, {place: line for place, line, _ in nodes}, unquoted, text, stamp)


def stamp_of(path: Path) -> Stamp | None:
    """None where there is no such file. Follows links: a mounted ConfigMap changes by a link that points elsewhere."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # it holds a NUL
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def is_untyped(place: Place) -> bool:
    """Whether it is below a policy's `config`, or below `litellm`."""
    at, key = _UNTYPED.get(str(place[0]), (0, "")) if place else (0, "")
    return at > 0 and len(place) > at + 1 and place[at] == key


def read_value(text: str, place: Place = ()) -> Any:
    """What one value that stands outside of a file, for this place, is by the same rules. Raises ConfigError."""
    try:
        return _loaded(text, place)[1]
    except yaml.YAMLError as error:
        raise ConfigError(_problem(error, text)[1]) from None


def read_scalar(text: str) -> Any:
    """The number, the truth, the nothing or the text that it is where it stands without quotes. Raises ConfigError."""
    try:
        found = scalar(text.strip())
    except yaml.YAMLError as error:
        raise ConfigError(_problem(error, text)[1]) from None
    return text if isinstance(found, str) else found


class _Loader(ScalarLoader):
    """Refuses duplicate keys: the last one winning in silence is no way to configure a guard."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, ArithmeticError) as error:  # a number of five thousand digits
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None

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


def _loaded(text: str, place: Place = ()) -> tuple[list[tuple[Place, int, yaml.Node]], Any]:
    """The nodes with their places and lines, and what they are. Raises YAMLError."""
    _refuse_surprises(text)
    loader = _Loader(text)
    root = loader.get_single_node()
    if root is None:
        return [], None
    nodes = list(_placed(root, place, root))
    for at, _, node in nodes:
        if node.tag == WORD and is_untyped(at):
            raise ambiguous_word(node)
    return nodes, loader.construct_document(root)


def _problem(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """(line, what is wrong) on one line; 0 where no line is known."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark: Any = error.problem_mark or error.context_mark
        return mark.line + 1 if mark else 0, str(error.problem or error.context)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, f"the character {text[error.position]!a} does not belong into YAML"
    return 0, " ".join(str(error).split())


def _text(path: Path) -> str:
    try:
        with open(path, "rb", opener=_opened) as file:
            data = file.read(_LARGEST + 1)  # devices have no size, and no end
        if len(data) > _LARGEST:
            raise ConfigError(f"{path}: more than {_LARGEST} bytes are no configuration")
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except ValueError:  # it holds a NUL, or what no name on this system can hold
        raise ConfigError(f"{str(path)!r}: no file has such a name") from None


def _opened(name: str, flags: int) -> int:
    """A pipe into which nobody writes is empty: nobody could end the waiting for who does."""
    descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return descriptor


def _refuse_surprises(text: str) -> None:
    """An alias of an alias grows a small file without bound, and makes two places out of one line; a tag says of a value
    that it is another one than it looks like; and what stands in a comment for YAML 1.2 must not be a setting for us."""
    if found := _LINE_END_OF_SOME.search(text):
        raise yaml.MarkedYAMLError(
            problem=f"the character {found[0]!a} ends a line for some who read YAML, and not for others: write it as this "
            "escape, in double quotes",
            problem_mark=yaml.Mark("", found.start(), text.count("\n", 0, found.start()), 0, None, 0),
        )
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not supported"
        elif getattr(event, "tag", None) is not None:
            problem = "tags (!name) are not supported"
        elif depth > _DEEPEST:
            problem = f"more than {_DEEPEST} lists and mappings in each other are no configuration"
        if problem:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _placed(node: Any, at: Place, begins: Any) -> Iterator[tuple[Place, int, yaml.Node]]:
    """(place, line, node) of all; `begins`: the node whose line it is, a key where there is one."""
    yield at, begins.start_mark.line + 1, node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _placed(value, (*at, key.value), key)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _placed(value, (*at, number), value)


def _is_plain(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style
