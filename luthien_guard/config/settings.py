"""The keys of `guard.yaml`. Unknown keys are errors, everywhere."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["AuthSettings", "GuardConfig", "PolicySettings", "ServerSettings", "UpstreamSettings"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PolicySettings(_Settings):
    """One policy of the chain."""

    use: str
    config: dict[str, Any] = {}
    mode: str = "enforce"
    on_error: str = "block"
    timeout: float | None = None
    name: str | None = None


class UpstreamSettings(_Settings):
    """Where requests for some models go: exactly one of `native`, `litellm` and `replay`. The first match wins."""

    match: str | list[str] = "*"  # shell patterns over the model's name
    name: str | None = None  # for fallbacks and for records; default: the kind and its number
    native: str | list[str] | None = None  # wire formats that the upstream speaks itself
    litellm: dict[str, Any] | None = None  # further arguments for litellm
    replay: str | None = None  # a folder of recorded exchanges
    base_url: str | None = None
    api_key: str | None = None  # None: the caller's own credential is passed on (auth mode passthrough)
    headers: dict[str, str] = {}
    model: str | None = None  # ask for this model instead of the one that the client named
    fallback: list[str] = []  # names of upstreams to ask when this one fails before its first byte
    retries: int = 0
    connect_timeout: float = 10.0
    pace: float = 1.0  # of a replay: 1 as recorded, 0 at once


class AuthSettings(_Settings):
    """Who may use the gateway, and with whose credential it asks."""

    mode: Literal["client_key", "passthrough", "both", "off"] = "passthrough"


class ServerSettings(_Settings):
    """How the gateway serves."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    allowed_hosts: list[str] = []  # further names for the Host header; loopback names are always allowed
    unknown_paths: Literal["deny", "observe", "pass"] = "deny"
    metrics: bool = True


class GuardConfig(_Settings):
    """The file."""

    policies: list[str | PolicySettings] = []
    mode: str = "enforce"
    on_block: str = "refuse"
    unknown: str = "allow"
    limits: dict[str, float] = {}
    store: str | None = None
    pubsub: str | None = None
    durability: Literal["balanced", "strict"] = "balanced"
    auth: AuthSettings = AuthSettings()
    upstreams: list[UpstreamSettings] = []
    server: ServerSettings = ServerSettings()
