"""Settings from environment variables: `${NAME}` inside the file, and `LUTHIEN_SECTION__KEY` over the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from luthien_guard.config.names import meant, sections
from luthien_guard.config.yaml_file import Place, YamlFile, is_untyped, read_scalar, read_value
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
_DIGITS: Final = 9  # of a position in a list


def substituted(
    value: Any, environ: Mapping[str, str], file: YamlFile, *, skip: frozenset[Place], place: Place = ()
) -> Any:
    """`value` of `file` with `${NAME}` and `${NAME:-default}` replaced in every string; `$${` stands for `${`. Places in
    `skip` are left alone: something else overrides them. Raises ConfigError with the line for a variable that is not set."""
    if place in skip:
        return value
    if isinstance(value, str):
        return _expanded(value, environ, file, place)
    if isinstance(value, dict):
        return {
            key: substituted(each, environ, file, skip=skip, place=(*place, key))
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [
            substituted(each, environ, file, skip=skip, place=(*place, at)) for at, each in enumerate(value)
        ]
    return value


def places(environ: Mapping[str, str]) -> dict[Place, str]:
    """The place that each variable of ours sets. A name that is nearly one of ours is an error: a guard that is not
    configured as meant is no guard."""
    found: dict[Place, str] = {}
    known = sections()
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OWN:
            continue
        parts = name.removeprefix(PREFIX).lower().split("__")
        if parts[0] not in known:
            _refuse_typo(name)
        elif len(parts) > 1 and not known[parts[0]]:
            raise ConfigError(f"environment variable {name}: {parts[0]} has no parts")
        else:
            place = tuple(map(_part, parts))
            if place in found:
                raise ConfigError(f"environment variables {found[place]} and {name} set the same: keep one")
            found[place] = name
    return found


def overlaid(
    raw: Mapping[str, Any], set_by: Mapping[Place, str], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Place, str]]:
    """A copy of `raw` with the values of the variables put in at their places, the outer ones first; and these places, the
    keys that somebody chose (names of sets, keys of a `config`) as they are spelled there. Raises ConfigError."""
    result, spelled = deepcopy(dict(raw)), dict[Place, str]()
    for place, name in sorted(set_by.items(), key=lambda pair: len(pair[0])):
        try:
            found = _spelled(place, result)
            _put(result, found, _value(environ[name], found))
        except LookupError:
            raise ConfigError(
                f"environment variable {name}: there is nothing to set at {_dotted(place)}"
            ) from None
        except ConfigError as error:
            raise ConfigError(f"environment variable {name}: {error}") from None
        spelled[found] = name
    return result, spelled


# ----------------------------------------------------------------------------------------------------------------------


def _expanded(text: str, environ: Mapping[str, str], file: YamlFile, place: Place) -> Any:
    """Where no type says what a text means, a reference without quotes is what its value would be in its place."""
    where = file.at(place)
    result = _REFERENCE.sub(lambda found: _looked_up(found, environ, where), text)
    whole = _REFERENCE.fullmatch(text)
    if whole is None or not whole["name"] or place not in file.unquoted or not is_untyped(place):
        return result
    if not result and whole["default"] is None:  # an empty limit would be no limit
        name = whole["name"]
        raise ConfigError(f"{where}: environment variable {name} is empty: ${{{name}:-}} says that it may be")
    try:
        return read_scalar(result)
    except ConfigError as error:
        raise ConfigError(f"{where}: environment variable {whole['name']}: {error}") from None


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


def _refuse_typo(name: str) -> None:
    """Variables of other programs may begin alike: only what looks like a setting of ours is refused."""
    own = name.removeprefix(PREFIX).lower()
    probably = meant(own)
    if probably is not None or "__" in own:
        hint = f" (did you mean {PREFIX}{probably.upper()}?)" if probably else ""
        raise ConfigError(f"environment variable {name}: unknown setting{hint}")


def _spelled(place: Place, raw: Any) -> Place:
    """Names of variables have no lower case. Raises ConfigError where two keys could be meant."""
    result: list[str | int] = []
    for part in place:
        found = part
        if isinstance(raw, dict):
            found = _key(raw, str(part))
            raw = raw.get(found)
        else:
            raw = raw[part] if isinstance(raw, list) and isinstance(part, int) and part < len(raw) else None
        result.append(found)
    return tuple(result)


def _key(raw: dict[str, Any], part: str) -> str:
    alike = [key for key in raw if key.lower() == part.lower()]
    if len(alike) > 1:
        raise ConfigError(f"{' and '.join(map(ascii, alike))} could be meant")
    return alike[0] if alike else part


def _part(name: str) -> str | int:
    return int(name) if name.isascii() and name.isdecimal() and len(name) <= _DIGITS else name


def _value(text: str, place: Place) -> Any:
    """Types are pydantic's business, where there are some; lists and mappings are written as JSON or YAML."""
    begins = text.lstrip()[:1]
    if begins in ("[", "{") or (begins in ("'", '"') and is_untyped(place)):
        return read_value(text, place)
    return read_scalar(text) if is_untyped(place) else text


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
