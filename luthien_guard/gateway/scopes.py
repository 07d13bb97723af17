"""What a key may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luthien_guard.asgi.types import Scope
from luthien_guard.gateway.auth import Principal, Refusal

__all__ = ["SCOPES", "scope_refusal"]

#: Scope -> the paths that it opens, with what stands below them. `*` opens everything.
SCOPES: Final[Mapping[str, str]] = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "models": "/v1/models",
    "metrics": "/metrics",
}
#: What the gateway tells of itself.
_OWN: Final = ("/metrics", "/openapi.json")
_KEY_NEEDED: Final = Refusal(401, "missing_api_key", "this path needs a key of the gateway")


def scope_refusal(principal: Principal, scope: Scope) -> Refusal | None:
    """403 when the principal has scopes and none of them opens this path. Who has none at all is not restricted: the
    caller's own credential with a provider says what it may do there. It says nothing about the gateway's own pages."""
    path = _own_path(scope)
    if not principal.vouched_for and path in _OWN:
        return _KEY_NEEDED
    if not principal.scopes or "*" in principal.scopes:
        return None
    for name in principal.scopes:
        opened = SCOPES.get(name)
        if opened is not None and (path == opened or path.startswith(opened + "/")):
            return None
    return Refusal(403, "scope_missing", "this key may not be used for this path")


def _own_path(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
