"""What an upstream says that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthien_guard.gateway.upstreams.types import UpstreamError

__all__ = ["models_in"]


def models_in(body: bytes) -> list[Mapping[str, Any]]:
    """The models of a list in the format of either provider, each with an `id` that names it; what else stands there is
    none. Raises UpstreamError for what is no list."""
    import jiter

    try:
        data = jiter.from_json(body, allow_inf_nan=False)
    except ValueError:
        data = None
    found = data.get("data") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise UpstreamError(502, "upstream_error", "the upstream's list of models is none")
    return [each for each in found if isinstance(each, dict) and _names(each.get("id"))]


def _names(id: object) -> bool:
    return isinstance(id, str) and id != ""
