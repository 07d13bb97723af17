"""What the gateway starts with when nobody says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from luthien_guard.config.folders import data_folder

__all__ = ["default_upstreams", "gateway_defaults"]

_ANTHROPIC: Final = {
    "match": "claude-*",
    "native": "anthropic.messages",
    "base_url": "https://api.anthropic.com",
}
_OPENAI: Final = {
    "match": ["gpt-*", "o1*", "o3*", "o4*", "codex-*", "chatgpt-*"],
    "native": ["openai.chat", "openai.responses"],
    "base_url": "https://api.openai.com/v1",
}


def gateway_defaults(*, has_file: bool, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Upstreams, and without a file `noop` and SQLite in the user's data folder."""
    defaults: dict[str, Any] = {"upstreams": default_upstreams()}
    if not has_file:
        store = f"sqlite:///{quote(str(data_folder(environ) / 'guard.db'))}"
        defaults |= {"policies": ["noop"], "store": store}
    return defaults


def default_upstreams() -> list[dict[str, Any]]:
    """The two providers with the caller's own credential, and litellm for the rest. No key of the host's is used
    unless a file says so: whoever reaches a gateway could spend it."""
    demo = [{"match": "demo-*", "replay": "./recordings"}] if Path("recordings").is_dir() else []
    return [dict(_ANTHROPIC), dict(_OPENAI), *demo, {"match": "*", "litellm": {}}]
