"""Times and sizes as people write them on a command line."""

from __future__ import annotations

import re
from typing import Any, Final

import click

__all__ = ["Duration", "Size"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class Duration(click.ParamType[float]):
    """30m, 12h, 90d: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+)([smhdw])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no time: write 30m, 12h or 90d", param, ctx)
        return float(int(found[1]) * _SECONDS[found[2]])


class Size(click.ParamType[int]):
    """500MB, 1GB: bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+)([KMG]B|)", str(value).upper())
        if found is None:
            self.fail(f"{value!r} is no size: write 500MB or 1GB", param, ctx)
        return int(found[1]) * _BYTES[found[2]]
