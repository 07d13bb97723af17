"""What variables call the settings, and what somebody meant by a name that is none of them."""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Final

from pydantic import BaseModel

from luthien_guard.config.settings import (
    AuthSettings,
    GuardConfig,
    PolicySettings,
    ServerSettings,
    UpstreamSettings,
)
from luthien_guard.limits import Limits

__all__ = ["MODELS", "meant", "sections"]

#: Of the settings at the top that have parts of their own: what these are.
MODELS: Final[dict[str, type[BaseModel]]] = {
    "policies": PolicySettings,
    "policy_sets": PolicySettings,
    "upstreams": UpstreamSettings,
    "auth": AuthSettings,
    "server": ServerSettings,
}
_LISTED: Final = frozenset({"policies", "upstreams"})
_NEAR: Final = 0.8  # of a name without `__`, which may be another program's


def sections() -> dict[str, bool]:
    """The settings at the top, True for those that have parts."""
    parted = {*MODELS, "limits", "session_from"}
    return {name: name in parted for name in GuardConfig.model_fields}


def meant(name: str) -> str | None:
    """`auth__mode` for `auth_mode`, `store` for `store_url`; None where it looks like nothing of ours. `name`: lower
    case, without the prefix."""
    if "__" in name:
        head, _, rest = name.partition("__")
        near = difflib.get_close_matches(head, sections(), n=1, cutoff=0.5)
        return f"{near[0]}__{rest}" if near else None
    squeezed = difflib.get_close_matches(_squeezed(name), _spelled(), n=1, cutoff=_NEAR)
    if squeezed:
        at = re.search(r"\d+", name)
        return _spelled()[squeezed[0]].replace("__0__", f"__{at[0] if at else 0}__")
    within = [top for top in sections() if name.startswith(f"{top}_")]
    return f"{within[0]}__..." if within and sections()[within[0]] else next(iter(within), None)


@cache
def _spelled() -> dict[str, str]:
    """Every setting, by its name without what people forget."""
    found = [*sections(), *(f"limits__{limit}" for limit in Limits.__dataclass_fields__)]
    for top, model in MODELS.items():
        at = "0__" if top in _LISTED else ""
        found += [f"{top}__{at}{name}" for name in model.model_fields if top != "policy_sets"]
    return {"policy": "policies", **{_squeezed(name): name for name in found}}


def _squeezed(name: str) -> str:
    return re.sub(r"\d+", "0", name).replace("_", "")
