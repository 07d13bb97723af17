"""How `ctx.judge` asks another model when the application gave no judge of its own: through litellm."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["ask_with_litellm"]


async def ask_with_litellm(messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
    """The text of the model's answer. Raises litellm's own exceptions, and ValueError where there is no text."""
    # without it litellm asks the network for its price list at import and waits for the time-out
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    response: Any = await litellm.acompletion(model=model, messages=messages, **params)
    text = response.choices[0].message.content
    if not isinstance(text, str):
        raise ValueError("the judge gave no text")
    return text
