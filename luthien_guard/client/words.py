"""Which string of a stream's chunks the guard replaces: nearly always the same one, in chunks that are alike.

Two JSON texts that begin alike up to a string, and that go on alike behind it, differ in that string alone. So a changed
chunk that is like one before needs no parser and no comparison of what it says.
"""

from __future__ import annotations

from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

import jiter

from luthien_guard.client.revised import change_at, differences, with_changes
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import begin_of

__all__ = ["Words"]

_FRAME = len("data: ")


class Words:
    """Of one stream. `learn` where a string of a chunk was replaced; `again` where that is so once more."""

    __slots__ = ("_head", "_left", "_path", "_rest", "_said")

    def __init__(self) -> None:
        self._head = ""  # of a frame, up to the string
        self._path: Path = ()
        self._rest = ""  # of the last frame that began so, behind the string
        self._said: Any = None  # what that frame said
        self._left = 8  # lessons: where another string is replaced each time, they are in vain

    def again(self, like: Any, came: bytes, raw: bytes) -> Any:
        """A copy of litellm's object `like`, whose frame is `came`, that says what `raw` says; None where they do not differ
        in the string that was learned, and in nothing else."""
        head, at = self._head, len(self._head)
        if not head:
            return None
        was, now = came.decode(), raw.decode()
        if not (was.startswith(head) and now.startswith(head)):
            return None
        try:
            word, end = scanstring(now, at)
            rest = now[end:]
            if was[scanstring(was, at)[1] :] != rest:
                return None
            if rest != self._rest:
                self._said, self._rest = jiter.from_json(came[_FRAME:]), rest
        except ValueError:  # a lone surrogate
            return None
        return with_changes(like, self._said, change_at(self._path, word))

    def learn(self, came: bytes, data: dict[str, Any]) -> None:
        """A chunk whose frame is `came` was made to say `data`."""
        if not self._left:
            return
        self._left -= 1
        try:
            said = jiter.from_json(came[_FRAME:])
        except ValueError:  # nothing came, or a lone surrogate
            return
        changes, path = differences(said, data), list[str | int]()
        while isinstance(changes, dict) and len(changes) == 1:
            ((key, changes),) = changes.items()
            path.append(key)
        if isinstance(changes, str):
            text = came.decode()
            self._head = text[: _FRAME + begin_of(text[_FRAME:], tuple(path)) + 1]
            self._path, self._rest = tuple(path), ""
