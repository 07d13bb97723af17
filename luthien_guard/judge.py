"""How `ctx.judge` asks another model when the application gave no judge of its own: through litellm, which is loaded
here for everybody."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from anyio import to_thread

__all__ = ["ask_with_litellm", "litellm", "load"]


@cache
def litellm() -> Any:
    """The module, imported when it is first needed and never at `import luthien_guard`. Without the variables it asks the
    network for its price list at import, and for a list of headers at the first call that has one, and waits for the
    time-out."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    import litellm as module

    return module


async def load() -> Any:
    """The same without standing still: the import takes seconds, in a thread. Raises ImportError."""
    if litellm.cache_info().currsize:
        return litellm()
    return await to_thread.run_sync(litellm, abandon_on_cancel=True)


async def ask_with_litellm(messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
    """The text of the model's answer. What the model does not take of `params` is left out (reasoning models know no
    `temperature`), unless `drop_params=False` says otherwise. Raises litellm's own exceptions, and ValueError where there
    is no text: a model that thinks may spend all of `max_tokens` on that."""
    api = await load()
    response: Any = await api.acompletion(model=model, messages=messages, **{"drop_params": True, **params})
    choice = response.choices[0]
    text = choice.message.content
    if not isinstance(text, str) or not text:
        raise ValueError(f"the judge gave no text (finish reason: {choice.finish_reason})")
    return text
