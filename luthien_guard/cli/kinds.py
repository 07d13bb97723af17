"""Times and sizes as people write them on a command line."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

__all__ = ["Duration", "Seconds", "Size"]

if TYPE_CHECKING:
    _OfFloat: TypeAlias = click.ParamType[float]
    _OfInt: TypeAlias = click.ParamType[int]
else:  # click before 8.4 takes no parameters here
    _OfFloat = _OfInt = click.ParamType

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST: Final = 1000 * 365 * 86400  # no calendar goes beyond the year 9999
_BYTES: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class Duration(_OfFloat):
    """30m, 12h, 90d: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d{1,12})([smhdw])", str(value))
        seconds = int(found[1]) * _SECONDS[found[2]] if found is not None else 0
        if not 0 < seconds <= _LONGEST:
            self.fail(f"{value!r} is no time: write 30m, 12h or 90d (up to 365000d)", param, ctx)
        return float(seconds)


class Seconds(click.FloatRange):
    """Within a range; neither `nan` nor infinity is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


class Size(_OfInt):
    """500MB, 1GB: bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,18})([KMG]B|)", str(value).upper())
        if found is None:
            self.fail(f"{value!r} is no size: write 500MB or 1GB", param, ctx)
        return int(found[1]) * _BYTES[found[2]]
