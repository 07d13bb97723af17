"""The JSON schema of `guard.yaml`, for editors."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.config.settings import GuardConfig

__all__ = ["DIALECT", "json_schema"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Numbers and switches may also be written as text: `${VARIABLE}` is text until it is read."""
    schema = GuardConfig.model_json_schema()
    schema["properties"]["policy"] = {
        "type": "object",
        "description": "One policy in the older form, instead of `policies`.",
        "properties": {"class": {"type": "string"}, "config": {"type": "object"}},
        "required": ["class"],
        "additionalProperties": False,
    }
    return {"$schema": DIALECT, "$id": "urn:luthien-guard:guard.yaml", **_lenient(schema)}


def _lenient(node: Any) -> Any:
    if isinstance(node, list):
        return [_lenient(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") in ("integer", "number", "boolean"):
        noted = {key: node[key] for key in ("default", "description", "title") if key in node}
        typed = {key: value for key, value in node.items() if key not in noted}
        return {**noted, "anyOf": [typed, {"type": "string", "pattern": r"\$\{"}]}
    return {key: _lenient(each) for key, each in node.items()}
