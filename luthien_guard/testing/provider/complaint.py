"""A request that the real provider would refuse, and in what words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["Complaint", "check_keys", "check_names", "mapping", "sequence"]

_TYPES: Final = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}


class Complaint(Exception):
    """`status` and the words; `code` and `param` where the provider gives them."""

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def body(self, wire_format: str) -> dict[str, Any]:
        """The error as this provider writes it."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        if wire_format == "anthropic.messages":
            return {
                "type": "error",
                "error": {"type": kind, "message": str(self)},
                "request_id": "req_fake0001",
            }
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Complaint(f"{where}: Input should be a valid dictionary", param=where)
    return value


def sequence(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Complaint(f"{where}: Input should be a valid list", param=where)
    return value


def check_keys(request: Mapping[str, Any], known: Iterable[str], message: str) -> None:
    """Refuse a parameter that the API does not have; `message` holds `{}` for its name."""
    for key in request:
        if key not in known:
            raise Complaint(message.format(key), code="unknown_parameter", param=key)


def check_names(names: Iterable[Any], pattern: re.Pattern[str]) -> None:
    """The names of the tools: each spelled as the provider has it, none twice."""
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not pattern.fullmatch(name):
            raise Complaint(
                f"tools: name {name!r}: String should match pattern '{pattern.pattern}'", param="tools"
            )
        if name in seen:
            raise Complaint("tools: Tool names must be unique.", param="tools")
        seen.add(name)
