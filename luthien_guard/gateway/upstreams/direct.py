"""Calls that litellm would only take apart and put together again: a provider asked in its own wire format."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.native import NativeUpstream
from luthien_guard.gateway.upstreams.types import Call
from luthien_guard.limits import Limits
from luthien_guard.wire.json_text import patch

__all__ = ["Direct"]

_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic": ("anthropic.messages",),
    "openai": ("openai.chat", "openai.responses"),
}
#: Names that litellm takes for these providers' without a prefix.
_BARE: Final = {
    "anthropic": re.compile(r"claude-[\w.-]+\Z"),
    "openai": re.compile(r"(gpt-|chatgpt-|o[1-9])[\w.-]*\Z"),
}


class Direct:
    """The providers of one litellm upstream that need no conversion. Where the upstream has arguments for litellm,
    litellm is asked always."""

    def __init__(self, settings: UpstreamSettings, name: str, limits: Limits) -> None:
        self._model = settings.model
        self._upstreams = {} if settings.litellm else _upstreams(settings, name, limits)

    def taken(self, call: Call) -> tuple[NativeUpstream, Call] | None:
        """The upstream and the call as it gets it; None when litellm has to convert."""
        for provider, upstream in self._upstreams.items():
            model = _name(self._model or call.model, provider)
            if model is not None and upstream.speaks(call):
                body = call.body
                if model != call.model:
                    body = patch(body.decode(), {("model",): model}).encode()
                return upstream, replace(call, model=model, body=body)
        return None

    async def stop(self) -> None:
        for each in self._upstreams.values():
            await each.stop()


def _upstreams(settings: UpstreamSettings, name: str, limits: Limits) -> dict[str, NativeUpstream]:
    return {
        provider: NativeUpstream(
            settings.model_copy(update={"native": list(formats), "litellm": None, "model": None}),
            name,
            limits,
            ambient_key=os.environ.get(f"{provider.upper()}_API_KEY"),
        )
        for provider, formats in _FORMATS.items()
    }


def _name(model: str, provider: str) -> str | None:
    """The provider's own name for the model; None when it is another's."""
    if model.startswith(provider + "/"):
        return model[len(provider) + 1 :]
    return model if _BARE[provider].match(model) else None
