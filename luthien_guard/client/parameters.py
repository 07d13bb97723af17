"""Parameters that litellm would refuse although the provider may know them: listed so that they pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.client.litellm_api import litellm

__all__ = ["unvalidated"]

#: What steers the call itself, and what litellm leaves out in silence where a provider does not know it: listed, it
#: would be sent, and refused there.
_OWN: Final = frozenset(
    {
        "additional_drop_params",
        "allowed_openai_params",
        "api_version",
        "custom_llm_provider",
        "drop_params",
        "extra_body",
        "extra_headers",
        "max_retries",
        "messages",
        "metadata",
        "model",
        "stream",
        "stream_options",
        "user",
    }
)


def unvalidated(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with `allowed_openai_params` for what litellm does not map for this model. What it does map must not be
    listed: it would be sent twice. Callers who asked litellm to drop parameters keep that."""
    api = litellm()
    if given.get("drop_params") or api.drop_params:
        return dict(given)
    known = api.constants.DEFAULT_CHAT_COMPLETION_PARAM_VALUES.keys()
    names = {name for name, value in given.items() if value is not None and name in known} - _OWN
    if given.get("n") == 1:  # what everybody does unasked
        names.discard("n")
    unmapped = sorted(names.difference(_mapped(given)))
    if not unmapped:
        return dict(given)
    allowed = [*(given.get("allowed_openai_params") or ()), *unmapped]
    return {**given, "allowed_openai_params": list(dict.fromkeys(allowed))}


def _mapped(given: Mapping[str, Any]) -> list[str]:
    api, provider = litellm(), given.get("custom_llm_provider")
    base = given.get("api_base") or given.get("base_url")
    try:
        model, provider, *_ = api.get_llm_provider(given.get("model", ""), provider, base)
    except api.exceptions.BadRequestError:  # an unknown provider: the call itself says so
        return list(given)
    found: list[str] | None = api.get_supported_openai_params(model, provider)
    return list(given) if found is None else found
