"""Whether a stream has said its last word: framing does not always tell, and a proxy on the way may end in good order
what broke off behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.wire.sse import Frame, SSEDecoder

__all__ = ["Ending"]

#: The `type` of each format's last event.
_LAST: Final[Mapping[str, frozenset[str]]] = {
    "openai.chat": frozenset(),  # [DONE]
    "anthropic.messages": frozenset({"message_stop", "error"}),
    "openai.responses": frozenset({"response.completed", "response.incomplete", "response.failed", "error"}),
}
_DONE: Final = b"data: [DONE]\n\n"
_PIECES: Final = 3  # the last ones are looked at: without [DONE], usage may stand behind the finish reason


class Ending:
    """Is shown the frames of one stream as they pass, and reads only the last of them, when it is asked."""

    def __init__(self, wire_format: str) -> None:
        self._last = _LAST[wire_format]
        self._pieces: deque[bytes] = deque(maxlen=_PIECES)
        self.note = self._pieces.append

    def is_over(self) -> bool:
        """The last frame is the format's last event: what follows has nothing to say."""
        frames = self._frames()
        return bool(frames) and (_is_done(frames[-1]) or self._ends(_json(frames[-1])))

    def may_end(self) -> bool:
        """As `is_over`, or all but said so: some providers of openai.chat leave out [DONE]."""
        if self._pieces and (self._pieces[-1] == _DONE or self._pieces[-1].endswith(b"\n\n" + _DONE)):
            return True
        return any(_is_done(each) or self._may_end(_json(each)) for each in reversed(self._frames()))

    def _frames(self) -> list[Frame]:
        decoder = SSEDecoder(1 << 62)
        frames = decoder.feed(b"".join(self._pieces)) + decoder.close()
        return [each for each in frames if each.data is not None]

    def _ends(self, data: Mapping[str, Any]) -> bool:
        return bool(data.get("error")) or data.get("type") in self._last

    def _may_end(self, data: Mapping[str, Any]) -> bool:
        return self._ends(data) or _finishes(data)


def _is_done(frame: Frame) -> bool:
    return frame.data is not None and frame.data.startswith(b"[DONE]")


def _finishes(data: Mapping[str, Any]) -> bool:
    choices = data.get("choices")
    return isinstance(choices, list) and any(isinstance(e, dict) and e.get("finish_reason") for e in choices)


def _json(frame: Frame) -> Mapping[str, Any]:
    import jiter

    try:
        data = jiter.from_json(frame.data or b"")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
