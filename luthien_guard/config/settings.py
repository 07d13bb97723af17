"""The keys of `guard.yaml`. Unknown keys are errors, everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from luthien_guard.limits import Limits

__all__ = ["AuthSettings", "GuardConfig", "PolicySettings", "ServerSettings", "UpstreamSettings"]


def _credential(value: str) -> str:
    """An empty variable must not become an empty credential, nor a line end a header of its own."""
    if not value or value != value.strip() or not value.isprintable():
        raise ValueError("a credential is not empty and holds no spaces around it and no control characters")
    return value


def _place(value: str) -> str:
    """No system takes a file, a host or a service with a NUL in its name, and a line end is a slip of YAML's."""
    if any(letter < " " or letter == "\x7f" for letter in value):
        raise ValueError("a path, a host or a URL holds no control characters")
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user, whose folder it would be") from None
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    """What HTTP can carry; the messages repeat no value: it may be a credential."""
    for name, text in value.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!a} is no name of a header")
        if text != text.strip() or not text.isprintable():
            raise ValueError(f"the value of {name} holds spaces around it, or control characters")
    return value


def _session_source(value: str) -> str:
    kind, _, where = value.partition(":")
    if not (_TOKEN.fullmatch(where) if kind == "header" else kind == "body" and all(where.split("."))):
        raise ValueError(f'{value!a} is neither "header:NAME" nor "body:PATH"')
    return value


_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
Credential = Annotated[str, AfterValidator(_credential)]
Named = Annotated[str, AfterValidator(_place)]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
SessionFrom = Annotated[str, AfterValidator(_session_source)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Settings(BaseModel):
    # messages of errors never repeat the input: it may be a credential
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class PolicySettings(_Settings):
    """One policy of the chain."""

    use: str = Field(description='The name of an installed policy, or "module:Class".')
    config: dict[str, Any] = Field(default={}, description="What the policy itself is told.")
    mode: Literal["enforce", "shadow", "off"] = Field(
        default="enforce", description="`shadow` records what it would do and changes nothing."
    )
    on_error: Literal["block", "allow"] = "block"
    timeout: Seconds | None = Field(default=None, description="Seconds for one call of one hook.")
    name: str | None = Field(default=None, description="In records; default: that of `use`.")
    group: str | None = Field(
        default=None, description="Neighbours of one group are asked at once, and have a say only."
    )


class UpstreamSettings(_Settings):
    """Where requests for some models go: exactly one of `native`, `litellm` and `replay`. The first match wins."""

    match: str | list[str] = Field(default="*", description="Shell patterns over the model's name.")
    name: str | None = Field(default=None, description="For fallbacks and records; default: kind and number.")
    native: str | list[str] | None = Field(default=None, description="Wire formats that it speaks itself.")
    litellm: dict[str, Any] | None = Field(default=None, description="Further arguments for litellm.")
    replay: Named | None = Field(
        default=None,
        description="A folder of recorded exchanges, or the URL of a store with `capture_chunks`.",
    )
    base_url: str | None = None
    api_key: Credential | None = Field(
        default=None,
        repr=False,
        description="None: the caller's own credential is passed on (mode passthrough).",
    )
    headers: Headers = Field(default={}, repr=False, description="Put into every request.")
    model: str | None = Field(default=None, description="Asked for instead of the one that the client named.")
    fallback: list[str] = Field(
        default=[], description="Upstreams to ask when this one fails before its first byte."
    )
    retries: Annotated[int, Field(ge=0, description="At most 5 are made.")] = 0
    connect_timeout: Seconds = 10.0
    pace: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Of a replay: 1 as recorded, 0 at once."
    )


class AuthSettings(_Settings):
    """Who may use the gateway, and with whose credential it asks."""

    mode: Literal["client_key", "passthrough", "both", "off"] = Field(
        default="passthrough", description="`off` serves loopback only."
    )
    keys: Named | None = Field(
        default=None,
        description="The gateway's keys: a file [default: in the data folder], postgresql://... or redis://...",
    )
    keys_grace: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=60.0, description="Seconds that a key still counts while the database of the keys is away."
    )
    shared: Named | None = Field(
        default=None,
        description="Where workers count together: redis://..., postgresql://..., sqlite:///..., memory://; default: "
        "what `pubsub` or `store` uses, else a file for the workers of this machine.",
    )
    shared_timeout: Seconds = Field(default=0.25, description="Seconds that a request waits for it.")
    unshared: Literal["alone", "refuse"] = Field(
        default="alone",
        description="While that is away: every worker counts alone, or refuses keys that have a limit.",
    )


class ServerSettings(_Settings):
    """How the gateway serves."""

    host: Named = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8000, description="0 takes a free one.")
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    fleet: str | None = Field(
        default=None,
        description="Workers with this name in common should run the same policies; default: on one machine those that "
        "read the same file, else all.",
    )
    allowed_hosts: list[str] = Field(
        default=[], description="Further names for the Host header; loopback names are always allowed."
    )
    unknown_paths: Literal["deny", "observe", "pass"] = "deny"
    metrics: bool = True
    reload: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="Seconds between two looks at this file; 0 reloads on SIGHUP only."
    )
    shutdown_timeout: Annotated[int, Field(ge=0)] = Field(
        default=30, description="Seconds that running exchanges have to end."
    )


class GuardConfig(_Settings):
    """The file."""

    policies: list[str | PolicySettings] = Field(default=[], description="They run in this order.")
    policy_sets: dict[str, list[str | PolicySettings]] = Field(
        default={}, description="Further policies, by name, for keys that are given one of them."
    )
    mode: Literal["enforce", "observe"] = Field(
        default="enforce", description="`observe` puts all in shadow."
    )
    on_block: Literal["refuse", "error", "raise"] = "refuse"
    unknown: Literal["allow", "block"] = Field(default="allow", description="Chunks of unknown kinds.")
    limits: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default={}, description="Of: " + ", ".join(Limits.__dataclass_fields__)
    )
    store: Named | None = Field(
        default=None, description="sqlite:///guard.db, postgresql://..., jsonl:///..., memory://"
    )
    pubsub: Named | None = Field(
        default="memory://",
        description="Who hears of what is stored: memory://, redis://..., postgresql://...",
    )
    durability: Literal["balanced", "strict"] = "balanced"
    data: Named | None = Field(
        default=None, description="The folder of the spool, locks and pepper [default: beside the store]."
    )
    on_unrecorded: Literal["block", "allow"] = "block"
    capture_chunks: bool = Field(default=False, description="Record responses piece by piece, for replays.")
    tracing: str | None = Field(default=None, description="otel: spans and metrics.")
    session_from: list[SessionFrom] | None = Field(default=None, description='"header:NAME" and "body:PATH".')
    auth: AuthSettings = AuthSettings()
    upstreams: list[UpstreamSettings] = []
    server: ServerSettings = ServerSettings()
