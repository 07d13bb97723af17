"""The modes of `auth`: the gateway's own keys, the caller's own credential, or either."""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from luthien_guard.config.settings import AuthSettings
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.gateway.auth import Anyone, Authenticator, Headers, Principal, Refusal
from luthien_guard.gateway.credentials import MISSING, credential_of
from luthien_guard.gateway.key import Key, Keys, looks_like_key, parse_key
from luthien_guard.gateway.rate import Rates
from luthien_guard.gateway.shared.urls import keys_of

__all__ = ["ClientKeys", "Either", "Passthrough", "make_authenticator"]

logger = logging.getLogger("luthien_guard")

#: One answer for every key that is not valid: which part was wrong is nobody's business.
_INVALID: Final = Refusal(401, "invalid_api_key", "this key is not valid here")
_UNAVAILABLE: Final = Refusal(403, "keys_unavailable", "keys cannot be checked at this time")
_AWAY: Final = Refusal(503, "keys_unavailable", "keys cannot be checked at this time", retry_after=1.0)
_NO_POLICIES: Final = Refusal(
    403, "policies_missing", "the policies that belong to this key are not configured"
)
_NOT_ONWARD: Final = Refusal(
    401,
    "invalid_api_key",
    "this is a key for a gateway, and it is not sent to providers: use the provider's own",
)


class ClientKeys:
    """Mode `client_key`."""

    def __init__(
        self,
        keys: Keys,
        *,
        rates: Rates | None = None,
        now: Callable[[], float] = time.time,
        policy_sets: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._keys = keys
        self._policy_sets = policy_sets
        self._now = now
        self._nobody = secrets.token_bytes(32)
        self._rates = rates or Rates()

    async def admit(self, headers: Headers) -> Principal | Refusal:
        credential = credential_of(headers)
        if isinstance(credential, Refusal):
            return credential
        return MISSING if credential is None else await self.check(credential)

    async def check(self, text: str) -> Principal | Refusal:
        """Who this key belongs to. A key that is unknown takes as long as one that is wrong."""
        id = parse_key(text)
        if id is None:
            return _INVALID
        try:
            key = await self._keys.find(id)
            matches = hmac.compare_digest(self._keys.mac(text), key.mac if key is not None else self._nobody)
        except SinkError:  # that the database is away was told
            return _AWAY
        except ConfigError as error:  # a key that may have been revoked meanwhile opens nothing
            logger.error("keys cannot be read: %s", error)
            return _UNAVAILABLE
        if key is None or not matches or key.state(self._now()) != "active":
            return _INVALID
        return await self._rates.refusal(key) or self._principal(key)

    def _principal(self, key: Key) -> Principal | Refusal:
        policies = key.settings.get("policies")
        known = isinstance(policies, str) and policies in self._policy_sets()
        if policies is not None and not known:
            logger.error("key %s wants the policy set %r, which is not configured", key.id, policies)
            return _NO_POLICIES
        return Principal(id=key.id, forwards_credential=False, scopes=key.scopes, policy_set=policies)


class Passthrough:
    """Mode `passthrough`: the upstream decides about the caller's own credential. `required`: there must be one (so
    that a gateway that others reach never falls back on a credential of its host's)."""

    def __init__(self, *, required: bool = False) -> None:
        self._required = required

    async def admit(self, headers: Headers) -> Principal | Refusal:
        credential = credential_of(headers)
        if isinstance(credential, Refusal):
            return credential
        if credential is None:
            return MISSING if self._required else Principal()
        return _NOT_ONWARD if looks_like_key(credential) else Principal()


class Either:
    """Mode `both`: a key of the gateway where there is one, the caller's own credential otherwise."""

    def __init__(self, keys: ClientKeys, passthrough: Passthrough) -> None:
        self._keys = keys
        self._passthrough = passthrough

    async def admit(self, headers: Headers) -> Principal | Refusal:
        credential = credential_of(headers)
        if isinstance(credential, str) and looks_like_key(credential):
            return await self._keys.check(credential)
        admitted = await self._passthrough.admit(headers)
        return admitted if isinstance(admitted, Refusal) else replace(admitted, vouched_for=False)


def make_authenticator(
    settings: AuthSettings,
    *,
    loopback: bool,
    policy_sets: Callable[[], Collection[str]] = tuple,
    keys: Keys | None = None,
    rates: Rates | None = None,
) -> Authenticator:
    """For the mode that the configuration names. `loopback`: nobody from outside reaches the port; `policy_sets`: the
    names that keys may bring; `keys` and `rates`: those of this process, where they are made already. Raises
    ConfigError."""
    if settings.mode == "off":
        return Anyone()
    passthrough = Passthrough(required=not loopback)
    if settings.mode == "passthrough":
        return passthrough
    own = ClientKeys(keys or keys_of(settings), rates=rates, policy_sets=policy_sets)
    return own if settings.mode == "client_key" else Either(own, passthrough)
