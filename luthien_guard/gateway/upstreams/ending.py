"""Whether a stream has said its last word, for upstreams whose framing does not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["Ending"]

_LAST_WORDS: Final[Mapping[str, re.Pattern[bytes]]] = {
    "openai.chat": re.compile(rb'\[DONE\]|"finish_reason"\s*:\s*"|"error"'),
    "anthropic.messages": re.compile(rb"message_stop|event: ?error"),
    "openai.responses": re.compile(rb"response\.(?:completed|incomplete|failed)|event: ?error"),
}
_MARGIN: Final = 64  # longer than any of the words, which may be cut between two reads


class Ending:
    """Looks at the bytes of one stream as they pass."""

    def __init__(self, wire_format: str) -> None:
        self._word = _LAST_WORDS[wire_format]
        self._tail = b""
        self._said = False

    def allows(self, data: bytes) -> bool:
        """False for an end (b"") that comes too early."""
        if not data:
            return self._said
        if not self._said:
            text = self._tail + data
            self._said = self._word.search(text) is not None
            self._tail = text[-_MARGIN:]
        return True
