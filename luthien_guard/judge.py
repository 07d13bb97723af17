"""How `ctx.judge` asks another model when the application gave no judge of its own: through litellm, which is loaded
here for everybody."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

__all__ = ["ask_with_litellm", "litellm"]


@cache
def litellm() -> Any:
    """The module, imported when it is first needed and never at `import luthien_guard`. Without the variables it asks the
    network for its price list at import, and for a list of headers at the first call that has one, and waits for the
    time-out."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    import litellm as module

    return module


async def ask_with_litellm(messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
    """The text of the model's answer. Raises litellm's own exceptions, and ValueError where there is no text."""
    response: Any = await litellm().acompletion(model=model, messages=messages, **params)
    text = response.choices[0].message.content
    if not isinstance(text, str):
        raise ValueError("the judge gave no text")
    return text
