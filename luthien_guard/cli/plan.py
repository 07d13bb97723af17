"""The effective plan in words: what a configuration makes of policies, routes, upstreams and sinks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from luthien_guard.config.masking import masked
from luthien_guard.config.settings import GuardConfig, UpstreamSettings
from luthien_guard.engine.plan import Plan
from luthien_guard.hooks import Registered
from luthien_guard.wire.formats import FORMATS

__all__ = ["config_rows", "policy_rows", "upstream_name"]

_KINDS: Final = ("native", "litellm", "replay")
#: Where an upstream is that names no address.
_WHERE: Final = {"native": "the public API", "litellm": "wherever litellm finds the model"}


def policy_rows(plan: Plan, *, hooks: bool = False) -> Iterator[str]:
    """One line a policy, in order, and the leak bound. `hooks`: also what each one hears."""
    bounds = plan.bounds()
    if not plan.registered:
        yield "no policies: everything passes"
    for number, each in enumerate(plan.registered, start=1):
        held = [what for who, what in bounds if who == each.name]
        yield f"{number}. {each.name}: holds {', '.join(held) or 'nothing'}{_strictness(each, plan.mode)}"
        if hooks:
            heard = [
                hook
                for hook, calls in plan.calls.items()
                if any(one.registered.name == each.name for call in calls for one in call.each)
            ]
            yield f"   hears {', '.join(heard) or 'nothing'}"
    if plan.registered:
        yield f"leak bound: {'; '.join(f'{what} (held by {who})' for who, what in bounds) or 'nothing is held back'}"
    yield f"version: {plan.version}"


def config_rows(config: GuardConfig) -> Iterator[str]:
    """Everything around the policies."""
    from luthien_guard.gateway.upstreams.providers import wide_credential

    yield f"mode: {config.mode}; a block answers with: {config.on_block}; unknown chunks: {config.unknown}"
    yield f"routes: {', '.join(f'POST /v1{each.suffix}' for each in FORMATS.values())}"
    yield f"other /v1 paths: {config.server.unknown_paths}"
    for number, each in enumerate(config.upstreams, start=1):
        yield f"upstream {number}. {_upstream(each)}"
        if warning := wide_credential(each):
            yield f"   warning: {warning}"
    yield f"store: {masked(config.store) if config.store else 'memory only'}; durability {config.durability}"
    yield f"pub/sub: {masked(config.pubsub) if config.pubsub else 'none'}"
    yield f"keys: {masked(config.auth.keys) if config.auth.keys else 'in the data folder'}"
    yield f"limits of keys and versions of policies: {_shared(config)}"
    server = config.server
    yield f"server: {server.host}:{server.port}, workers {server.workers}, authentication {config.auth.mode}"


def upstream_name(settings: UpstreamSettings, number: int) -> str:
    """As records and `fallback` call it."""
    return settings.name or f"{_kind(settings)}-{number}"


def _strictness(each: Registered, mode: str) -> str:
    """What differs from the strict defaults."""
    shown = "shadow" if mode == "observe" and each.mode == "enforce" else each.mode
    differs = [] if shown == "enforce" else [f"mode {shown}"]
    differs += [] if each.on_error == "block" else [f"when it fails: {each.on_error}"]
    differs += [] if each.group is None else [f"asked at once with the group {each.group}"]
    differs += [] if each.timeout is None else [f"timeout {each.timeout:g} s"]
    return f" ({', '.join(differs)})" if differs else ""


def _upstream(settings: UpstreamSettings) -> str:
    kind = _kind(settings)
    patterns = settings.match if isinstance(settings.match, str) else ", ".join(settings.match)
    spoken = settings.native if isinstance(settings.native, str) else ", ".join(settings.native or ())
    named: str | None = masked(settings.base_url or settings.replay)
    where = named or _WHERE.get(kind, "")
    credential = "its own key" if settings.api_key else "the caller's key"
    asked = f" as {settings.model}" if settings.model else ""
    after = f"; then {', '.join(settings.fallback)}" if settings.fallback else ""
    with_key = "" if kind == "replay" else f", with {credential}"
    return f"{patterns}{asked} -> {kind} {f'[{spoken}] ' if spoken else ''}{where}{with_key}{after}"


def _shared(config: GuardConfig) -> str:
    from luthien_guard.gateway.shared.urls import shared_url

    url: str = masked(shared_url(config)[1])
    return "by each worker" if url == "memory://" else f"shared through {url}"


def _kind(settings: UpstreamSettings) -> str:
    return next((each for each in _KINDS if getattr(settings, each) is not None), "?")
