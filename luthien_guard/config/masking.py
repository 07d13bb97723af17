"""Configurations as they may be shown: without what opens doors."""

from __future__ import annotations

import re
from typing import Any, Final

from luthien_guard.config.yaml_file import Place

__all__ = ["MASK", "masked"]

MASK: Final = "********"
#: Names of settings whose values are secrets, wherever they stand (a policy's own `config` included).
_NAMES: Final = re.compile(
    r"(?:^|[_-])(?:key|keys|apikey|token|secret|password|passwd|pepper|credentials?|authorization|cookie|dsn)$",
    re.IGNORECASE,
)
_NOT_SECRET: Final = frozenset({("auth", "keys")})
#: scheme://user:password@host, and the query, where drivers take passwords too. A password that was not quoted as URLs
#: want it (`pa/ss`) is one all the same, and so is one in a URL that is none (`postgres//u:pw@h`, `u:pw@h`).
_USERINFO: Final = re.compile(r"(?:(?<=/)|(?<!\S))([^/?#@:\s]*):(?!//)(\S*)@")
_QUERY: Final = re.compile(r"(?<=[?&])([^=&#]*(?:pass|key|token|secret)[^=&#]*)=[^&#]*", re.IGNORECASE)


def masked(value: Any, place: Place = ()) -> Any:
    """`value` (what pydantic dumps) with secrets replaced by asterisks. Headers of upstreams are secrets as a whole."""
    if isinstance(value, dict):
        return {key: masked(each, (*place, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each, (*place, at)) for at, each in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(place):
        return MASK
    return (
        _QUERY.sub(rf"\1={MASK}", _USERINFO.sub(rf"\1:{MASK}@", value)) if isinstance(value, str) else value
    )


def _is_secret(place: Place) -> bool:
    if place in _NOT_SECRET:
        return False
    if "headers" in place:
        return True
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    return _NAMES.search(name) is not None
