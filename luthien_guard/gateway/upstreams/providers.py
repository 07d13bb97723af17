"""Which providers litellm asks with the key that it is given, and with nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.client.litellm_api import litellm
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.litellm_errors import failure_of
from luthien_guard.gateway.upstreams.match import Match
from luthien_guard.gateway.upstreams.own import credential_arguments, has_own_credential
from luthien_guard.gateway.upstreams.types import Call, UpstreamError

__all__ = ["TAKE_KEY", "Ambient", "wide_credential"]

_WILD: Final = re.compile(r"[*?\[]")

#: litellm's names. The tests ask each of them on a host that has a credential of every kind, and look at what is sent.
#: None that listens on the host's own machine unless told otherwise (`ollama`, `lm_studio`): that is no stranger's to ask.
TAKE_KEY: Final = frozenset(
    """
    abliteration ai21 ai21_chat aihubmix aiml amazon_nova anthropic anthropic_text apertis assemblyai
    azure azure_ai baseten bytez cerebras charity_engine chutes cloudflare codestral cognition cohere
    cohere_chat cometapi compactifai cortecs crusoe darkbloom dashscope deepinfra deepseek edenai
    empiriolabs empower featherless_ai fireworks_ai friendliai galadriel gemini github gmi gradient_ai
    groq helicone hosted_vllm hyperbolic inception lambda_ai libertai maritalk meta meta_llama minimax
    mistral modelscope moonshot morph nano-gpt nebius neosantara nlp_cloud novita nscale nvidia_nim openai
    openrouter ovhcloud parasail perplexity pinstripes poe prism publicai qwen_ai_platform qwencloud reka
    replicate sail sambanova sarvam scaleway scx-ai synthetic tencent tensormesh together_ai v0 veniceai
    vercel_ai_gateway volcengine wandb xai xiaomi_mimo zai
    """.split()  # noqa: SIM905 -- a name a line otherwise
)


def wide_credential(settings: UpstreamSettings) -> str | None:
    """A warning about a litellm upstream whose credential goes to whichever provider a client names; None where it goes to
    one."""
    if settings.litellm is None or settings.model is not None or settings.base_url is not None:
        return None
    if "custom_llm_provider" in settings.litellm:
        return None
    wide = next((each for each in Match(settings.match).patterns if _is_wide(each)), None)
    if wide is None or not (has_own_credential(settings) or credential_arguments(settings)):
        return None
    return (
        f"match {wide!r} leaves it to the client which provider is sent this upstream's credential: name one there "
        "('openai/*'), or in model, or set base_url"
    )


class Ambient:
    """Many providers are asked with what the host's machine is allowed to (AWS, Google, a token in the environment),
    whatever the caller sends. That is for callers who may use it, and where the deployer said so: by an upstream with a
    credential of its own that names the provider, in `model` or in every pattern of `match`."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._has_own = has_own_credential(settings) or bool(credential_arguments(settings))
        self._has_model = settings.model is not None
        self._patterns = Match(settings.match).patterns

    def check(self, call: Call, arguments: Mapping[str, Any]) -> None:
        """Raises UpstreamError for a caller whom the credential that litellm would find is not for."""
        if call.ambient:
            return
        for api_base in {arguments.get("api_base"), None}:  # the Responses API looks without it
            provider, found = _found(arguments, api_base)
            key = arguments.get("api_key")
            takes_key = key is not None and found in (None, key)
            if not (takes_key if provider in TAKE_KEY else self._is_meant(provider)):
                message = (
                    f"{provider} is asked with the host's own credential, and you are not known here as "
                    "somebody who may"
                )
                raise UpstreamError(403, "credential_not_forwardable", message, again=False)

    def _is_meant(self, provider: str) -> bool:
        named = self._has_model or all(each.startswith(provider + "/") for each in self._patterns)
        return self._has_own and named


def _found(arguments: Mapping[str, Any], api_base: str | None) -> tuple[str, str | None]:
    """litellm's provider for these arguments, which knows names without a prefix too, and the key that it found where
    another than the given one goes before it."""
    model, named = arguments["model"], arguments.get("custom_llm_provider")
    first = named or _prefix(model)
    if first is not None and first not in TAKE_KEY:
        return first, None  # before looking further: litellm's look-up logs in to some
    try:
        _, provider, found, _ = litellm().get_llm_provider(
            model, custom_llm_provider=named, api_base=api_base, api_key=arguments.get("api_key")
        )
    except Exception as error:
        raise failure_of(error) from error
    return provider or "this provider", found


def _is_wide(pattern: str) -> bool:
    """Whether names with the prefixes of several providers fit it."""
    beginning = _WILD.split(pattern, maxsplit=1)[0]
    return beginning != pattern and sum(f"{each}/".startswith(beginning) for each in TAKE_KEY) > 1


def _prefix(model: str) -> str | None:
    prefix, slash, _ = model.partition("/")
    return prefix if slash and prefix in litellm().provider_list else None
