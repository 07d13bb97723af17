"""Names of models. litellm puts them into the path of a URL as they are."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_name"]

#: What a URL's parser takes for the end of a path, or for another spelling of one, and segments that lead out of it.
_LEADS_AWAY: Final = re.compile(r"[?#%\\;\s\x00-\x1f\x7f-\x9f]|(?:^|/)\.{0,2}(?:/|\Z)")


def is_name(model: str) -> bool:
    """True for the name of a model, with its provider or without. False for what leads to another place in a URL, a URL
    itself among them."""
    return _LEADS_AWAY.search(model) is None
