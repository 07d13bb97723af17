"""Where each setting comes from: the file, the environment, the command line, or nobody (a default)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from luthien_guard.config.yaml_file import Place, YamlFile

__all__ = ["DEFAULT", "Origins"]

DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Origins:
    """Looked up by place. The command line stands over the environment, the environment over the file."""

    file: YamlFile | None = None
    variables: Mapping[Place, str] = field(default_factory=dict[Place, str])
    options: Mapping[Place, str] = field(default_factory=dict[Place, str])

    def of(self, place: Place) -> str:
        """`--port`, `environment LUTHIEN_SERVER__PORT`, `guard.yaml:7` or `default`."""
        option = _around(self.options, place)
        if option is not None:
            return option
        variable = _around(self.variables, place)
        if variable is not None:
            return f"environment {variable}"
        if self.file is not None and place in self.file.lines:
            return self.file.at(place)
        return DEFAULT

    def near(self, place: Place) -> str | None:
        """The same, and of what nobody set the line around it. None where there is no file either."""
        origin = self.of(place)
        if origin != DEFAULT:
            return origin
        return None if self.file is None else self.file.at(place)


def _around(named: Mapping[Place, str], place: Place) -> str | None:
    """What sets this place, or something that it is a part of."""
    return next((named[place[:size]] for size in range(len(place), 0, -1) if place[:size] in named), None)
