"""One choice of a stream: what it said so far, in deltas or in a `message`."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.wire.chat.calls import Calls, read_whole, read_whole_legacy
from luthien_guard.wire.chat.fields import CHANNELS, Envelope
from luthien_guard.wire.chat.texts import Texts
from luthien_guard.wire.format import Path, Piece
from luthien_guard.wire.indices import leaves_as
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.strings import opaque

__all__ = ["DELTA", "Choice", "speaks"]

_SPEECH: Final = (*CHANNELS, "tool_calls", "function_call", "audio")
#: Members of a delta or a message that are known, so that their names need no look.
DELTA: Final = frozenset({"role", *_SPEECH})


def speaks(said: dict[str, Any]) -> bool:
    """True for a delta or a message with anything for the user in it."""
    return any(map(said.get, _SPEECH))


class Choice:
    """Reads what is rare in a choice, and remembers what it said. `odd`: what clients that check chunks would not take,
    by its place."""

    __slots__ = ("_envelope", "calls", "finished", "in_messages", "number", "texts")

    def __init__(self, number: int, envelope: Envelope) -> None:
        self.number = number
        self.in_messages = False  # what it says stands in a `message`, not in deltas
        self.texts = Texts(number)
        self.calls = Calls()
        self.finished = False
        self._envelope = envelope

    def read_message(
        self, message: Any, delta: Any, path: Path, odd: dict[Path, Any], pieces: list[Piece]
    ) -> str:
        """A `message` beside `delta`, in a stream. Gives why it is of no known kind, "" where it is.

        Some providers repeat in every chunk what the deltas said so far. Where a message says anything else, some
        clients read it, some the deltas, and some put deltas behind it: then of the two only that leaves which said
        something first. Nor does a message that repeats the delta beside it: that would come behind it once more."""
        behind = not self.in_messages and bool(self.texts.all or self.calls.all)
        if type(message) is not dict or (behind and not self._is_repeated_by(message)):
            opaque(message, path, pieces)
            pieces.append(leaves_as(path, DELETE))
            return "a message that does not fit" if type(message) is not dict or speaks(message) else ""
        self.in_messages = self.in_messages or (not behind and speaks(message))
        if behind and type(delta) is dict and speaks(delta):
            opaque({key: one for key, one in message.items() if key not in DELTA}, path, pieces)
            pieces.append(leaves_as(path, DELETE))
            return ""
        prefix = "" if behind else "message/"
        strange = ""
        for key, value in message.items():
            why = self._read_member(key, f"{prefix}{key}", value, (*path, key), odd, pieces)
            strange = strange or why
        return strange

    def _is_repeated_by(self, message: dict[str, Any]) -> bool:
        """Whether it says all that the deltas did, and nothing else."""
        texts = self.texts
        said = {key: message[key] for key in _SPEECH if message.get(key)}
        return (
            not self.calls.all
            and said.keys() == texts.all.keys()
            and all(map(texts.says, said, said.values()))
        )

    def _read_member(
        self, key: str, name: str, value: Any, path: Path, odd: dict[Path, Any], pieces: list[Piece]
    ) -> str:
        if value is None:
            if key not in DELTA:
                opaque({key: None}, path[:-1], pieces)
        elif (channel := CHANNELS.get(key)) is not None:
            if not self.texts.repeats(name, value, path, pieces):
                return self.texts.read(name, channel, value, path, pieces)
        elif key == "tool_calls":
            return read_whole(value, self.number, path, self._envelope, pieces)
        elif key == "function_call":
            return read_whole_legacy(value, self.number, path, pieces)
        else:
            self.read_other(key, f"message/{key}", value, path, odd, pieces)
        return ""

    def read_other(
        self, key: str, name: str, value: Any, path: Path, odd: dict[Path, Any], pieces: list[Piece]
    ) -> None:
        """Members of a delta or a message that are rare. `name`: of the text, if it is one."""
        if key == "role":
            self._envelope.check(value, path, pieces)
            if value != "assistant" and path[2] == "delta":
                odd[path] = value
        elif key == "audio" and type(value) is dict and type(value.get("transcript")) is str:
            if value["transcript"]:
                place = (*path, "transcript")
                self.texts.add(name, "audio_transcript", place, value["transcript"], pieces)
            opaque({k: v for k, v in value.items() if k != "transcript"}, path, pieces)
        else:
            opaque({key: value}, path[:-1], pieces)
