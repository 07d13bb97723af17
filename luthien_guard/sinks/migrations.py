"""Numbered `.sql` files beside a store: applied in order, once, forward only."""

from __future__ import annotations

from importlib.resources import files

from luthien_guard.errors import SinkError

__all__ = ["pending", "scripts"]


def scripts(package: str) -> list[tuple[int, str]]:
    """(number, SQL) of every `0001_name.sql` of the package, ascending."""
    found = [each for each in files(package).iterdir() if each.name.endswith(".sql")]
    return sorted((int(each.name.partition("_")[0]), each.read_text(encoding="utf-8")) for each in found)


def pending(package: str, done: int, where: str) -> list[tuple[int, str]]:
    """What has to be applied to a schema that stands at `done`. Raises SinkError for one from the future."""
    known = scripts(package)
    if done > known[-1][0]:
        raise SinkError(
            f"{where} has schema {done}, and this version knows {known[-1][0]} at most: it was written by a newer one"
        )
    return [(number, sql) for number, sql in known if number > done]
