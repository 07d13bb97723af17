"""Settings from environment variables: `${NAME}` inside the file, and `LUTHIEN_SECTION__KEY` over the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

from luthien_guard.config.yaml_file import Place, read_value
from luthien_guard.errors import ConfigError

__all__ = ["LAST_GOOD", "OWN", "PREFIX", "VARIABLE", "overlaid", "places", "substituted"]

PREFIX: Final = "LUTHIEN_"
#: The variable that names the file.
VARIABLE: Final = "POLICY_CONFIG"
#: Where the workers of one `serve` keep the file as it last was when it was right.
LAST_GOOD: Final = "LUTHIEN_LAST_GOOD"
#: Variables of the library that are no settings of the file.
OWN: Final = frozenset({"LUTHIEN_PEPPER", "LUTHIEN_API_KEY", LAST_GOOD})
_REFERENCE: Final = re.compile(
    r"\$(?:\$\{|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\{))"
)
#: Below these keys no type says what a text means: it is read as YAML, as it would be in the file.
_UNTYPED: Final = frozenset({"config", "litellm"})
_DIGITS: Final = 9  # of a position in a list


def substituted(
    value: Any,
    environ: Mapping[str, str],
    where: Callable[[Place], str],
    *,
    skip: frozenset[Place] = frozenset(),
    place: Place = (),
) -> Any:
    """`value` with `${NAME}` and `${NAME:-default}` replaced in every string; `$${` stands for `${`. Places in `skip`
    are left alone: something else overrides them. Raises ConfigError with `where(place)` for a variable that is not
    set."""
    if place in skip:
        return value
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _looked_up(found, environ, where(place)), value)
    if isinstance(value, dict):
        return {
            key: substituted(each, environ, where, skip=skip, place=(*place, key))
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [
            substituted(each, environ, where, skip=skip, place=(*place, at)) for at, each in enumerate(value)
        ]
    return value


def places(environ: Mapping[str, str], known: Mapping[str, bool]) -> dict[Place, str]:
    """The place that each variable of ours sets. `known`: the settings at the top, True for those that have parts.
    A name that is nearly one of ours is an error: a guard that is not configured as meant is no guard."""
    found: dict[Place, str] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OWN:
            continue
        parts = name.removeprefix(PREFIX).lower().split("__")
        if parts[0] not in known:
            _refuse_typo(name, parts, known)
        elif len(parts) > 1 and not known[parts[0]]:
            raise ConfigError(f"environment variable {name}: {parts[0]} has no parts")
        else:
            found[tuple(map(_part, parts))] = name
    return found


def overlaid(raw: dict[str, Any], set_by: Mapping[Place, str], environ: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `raw` with the values of the variables put in at their places, the outer ones first."""
    result = deepcopy(raw)
    for place, name in sorted(set_by.items(), key=lambda pair: len(pair[0])):
        try:
            _put(result, place, _value(environ[name], place))
        except LookupError:
            raise ConfigError(
                f"environment variable {name}: there is nothing to set at {_dotted(place)}"
            ) from None
        except ConfigError as error:
            raise ConfigError(f"environment variable {name}: {error}") from None
    return result


# ----------------------------------------------------------------------------------------------------------------------


def _looked_up(found: re.Match[str], environ: Mapping[str, str], where: str) -> str:
    if found[0] == "$${":
        return "${"
    if found["bad"]:
        raise ConfigError(
            f"{where}: `${{` is followed by no NAME}} or NAME:-default}} (write `$${{` for the characters)"
        )
    name, default = found["name"], found["default"]
    if default is not None and "${" in default:
        raise ConfigError(
            f"{where}: the default of {name} holds a `${{`: a reference does not stand in another"
        )
    value = environ.get(name)
    if value is None or (not value and default is not None):
        if default is None:
            raise ConfigError(f"{where}: environment variable {name} is not set")
        return str(default)
    return value


def _refuse_typo(name: str, parts: list[str], known: Mapping[str, bool]) -> None:
    """Variables of other programs may begin alike: only what looks like a setting of ours is refused."""
    close = difflib.get_close_matches(parts[0], list(known), n=1, cutoff=0.5 if len(parts) > 1 else 0.75)
    if len(parts) > 1 or close:
        hint = f" (did you mean {PREFIX}{'__'.join([close[0], *parts[1:]]).upper()}?)" if close else ""
        raise ConfigError(f"environment variable {name}: unknown setting{hint}")


def _part(name: str) -> str | int:
    return int(name) if name.isdecimal() and len(name) <= _DIGITS else name


def _value(text: str, place: Place) -> Any:
    """Types are pydantic's business; lists and mappings are written as JSON or YAML."""
    if text.lstrip()[:1] in ("[", "{") or _UNTYPED.intersection(place[:-1]):
        return read_value(text)
    return text


def _put(target: Any, place: Place, value: Any) -> None:
    """Raises LookupError where there is no such place."""
    for at, part in enumerate(place[:-1]):
        target = _inside(target, part, place[at + 1])
    last = place[-1]
    if isinstance(target, list):
        if not isinstance(last, int):
            raise LookupError(last)
        _grow(target, last, value)
        target[last] = value
    else:
        _mapping(target)[str(last)] = value


def _inside(target: Any, part: str | int, following: str | int) -> Any:
    empty: Any = [] if isinstance(following, int) else {}
    if isinstance(target, list):
        if not isinstance(part, int):
            raise LookupError(part)
        _grow(target, part, empty)
        if isinstance(target[part], str):  # a policy may be written as its name alone
            target[part] = {"use": target[part]}
        return target[part]
    if _mapping(target).get(str(part)) is None:
        target[str(part)] = empty
    return target[str(part)]


def _mapping(target: Any) -> dict[str, Any]:
    if not isinstance(target, dict):
        raise LookupError(target)
    return target


def _grow(target: list[Any], at: int, value: Any) -> None:
    if at > len(target):
        raise LookupError(at)
    if at == len(target):
        target.append(value)


def _dotted(place: Place) -> str:
    return ".".join(str(part) for part in place)
