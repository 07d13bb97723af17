"""What is wrong, where, and what was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from luthien_guard.config.names import MODELS
from luthien_guard.config.origin import Origins
from luthien_guard.config.settings import GuardConfig
from luthien_guard.config.yaml_file import Place
from luthien_guard.errors import ConfigError, did_you_mean

__all__ = ["dotted", "explained", "in_file", "of_file"]

#: pydantic puts the members of a union that it tried into the place; no file has them.
_UNION_MEMBERS: Final = frozenset({"str", "PolicySettings", "list[str]"})

#: pydantic says it in words of its own.
_PROBLEMS: Final = {
    "missing": "it is missing",
    "list_type": "a list is expected",
    "dict_type": "a mapping is expected",
    "model_type": "a mapping is expected",
}


def explained(error: ValidationError, where: Callable[[Place], str]) -> str:
    """One line for each problem: `guard.yaml:7: server.port: ...`. `where` gives what stands before the first colon."""
    lines = [
        _line(each, where)
        for each in error.errors(include_input=False, include_url=False)
        if not _is_noise(each)
    ]
    return "\n".join(dict.fromkeys(lines)) or str(error)


def dotted(place: Place) -> str:
    """`server.port`, on one line whatever somebody wrote for a key."""
    return ".".join(str(part) if str(part).isprintable() else ascii(part) for part in place)


@contextmanager
def of_file(path: Path | None, origins: Origins | None = None) -> Generator[None]:
    """What is found wrong only when things are made of a configuration is told with the file's name, too: once. With
    `origins` and a place that is known, with the line or the variable."""
    try:
        yield
    except ConfigError as error:
        where = origins.near(error.place) if origins is not None and error.place else None
        if where is not None:
            raise ConfigError(f"{where}: {dotted(error.place)}: {error}") from error
        if path is None:
            raise
        raise ConfigError(in_file(error, path)) from error


def in_file(error: ConfigError, path: Path) -> str:
    """What it says, with the file's name once."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _line(each: Any, where: Callable[[Place], str]) -> str:
    place = tuple(part for part in each["loc"] if part not in _UNION_MEMBERS)
    problem = _PROBLEMS.get(each["type"], each["msg"].removeprefix("Value error, "))
    if each["type"] == "extra_forbidden":
        problem = f"unknown key{did_you_mean(str(place[-1]), _keys_at(place))}"
    elif each["type"] == "model_type" and place[:1] in (("policies",), ("policy_sets",)):
        problem = "the name of a policy is expected, or a mapping with `use`"
    return f"{where(place)}: {dotted(place) or 'the file'}: {problem}"


def _is_noise(each: Any) -> bool:
    """Of `str | PolicySettings` and `str | list[str]`, what was tried first is not what was meant."""
    return bool(each["type"] == "string_type" and each["loc"][-1:] == ("str",))


def _keys_at(place: Place) -> Iterable[str]:
    model = MODELS.get(str(place[0])) if len(place) > 1 else GuardConfig
    return model.model_fields if model is not None else ()
