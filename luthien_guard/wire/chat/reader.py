"""Reads a stream of chat completion chunks.

A choice is over when the stream is: `[DONE]` or the end of the bytes. Its `finish_reason` does not close anything,
because clients go on merging what comes after it, and so must we.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.chat.choice import DELTA, Choice, speaks
from luthien_guard.wire.chat.fields import CHANNELS, ENVELOPE, Envelope, failed, logprobs_of
from luthien_guard.wire.chat.heading import Heading
from luthien_guard.wire.chat.indices import MAX_CHOICES, choice_of, last_choice, read_choice_index
from luthien_guard.wire.chat.shapes import CHECKED, are_annotations, are_logprobs, fits
from luthien_guard.wire.foreign import left_out, of_no_kind
from luthien_guard.wire.format import Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.indices import leaves_as, no_list
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.strings import opaque

__all__ = ["StreamReader"]

_LAST_MAX: Final = 64


class StreamReader:
    """Implements `Reader` for `stream: true`."""

    __slots__ = (
        "_choices",
        "_done",
        "_envelope",
        "_heading",
        "_last",
        "_last_choice",
        "_odd",
        "id",
        "model",
        "repeats",
        "unknown",
    )

    def __init__(self, choices: int | None = None) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self.repeats = True
        self._choices: dict[int, Choice] = {}
        self._last_choice = last_choice(choices)
        self._envelope = Envelope()
        self._done = False
        self._heading = Heading()
        self._odd: dict[Path, Any] = {}  # members of the chunk that clients check, and that do not fit
        self._last: dict[str, Any] = {}  # members of the chunk before that said nothing

    def read(self, chunk: Chunk) -> list[Piece]:
        if chunk.kind == "done":
            self._done = True
            return [*self._stops(), Piece(PieceKind.END)]
        data = chunk.data
        pieces: list[Piece] = []
        self.unknown = ""
        if self._odd:
            self._odd = {}
        if type(data) is not dict:
            self._strange(of_no_kind(data, "a chunk that is no object"))
            opaque(data, (), pieces)
            return pieces
        last = self._last
        for key, value in data.items():
            if key == "choices":
                if data.get("error") and _say_something(value):
                    # some clients read the error of such a chunk and nothing else
                    self._unread(value, "choices beside an error", pieces)
                else:
                    self._read_choices(value, pieces)
            elif key in last and last[key] == value and type(value) is not bool:
                continue  # the envelope, as in every chunk before
            else:
                self._read_member(key, value, pieces)
        if not self.id:
            self._name(data)
        heading = self._heading
        if data.get("object") != heading.object or chunk.event != heading.event or self._odd or heading.odd:
            heading.read(chunk, pieces, self._odd)
        if len(pieces) > 1:
            self._look_for_calls(data, pieces)
        return pieces

    def _look_for_calls(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        if type(data.get("choices")) is not list:
            self.unknown = of_no_kind(data, self.unknown)
        self.unknown = self.unknown or left_out(pieces)

    def _read_member(self, key: str, value: Any, pieces: list[Piece]) -> None:
        """Anything but the choices."""
        before = len(pieces)
        if type(value) is str and key in ENVELOPE:  # nearly always, and then it fits
            if not is_identifier(value):
                opaque(value, (key,), pieces)
        else:
            self._read_no_name(key, value, pieces)
        if (
            len(pieces) == before
            and key != "obfuscation"
            and (not self._odd or (key,) not in self._odd)
            and len(self._last) < _LAST_MAX
        ):
            self._last[key] = value

    def _read_no_name(self, key: str, value: Any, pieces: list[Piece]) -> None:
        if key in CHECKED and not fits(key, value):
            self._odd[(key,)] = value
        if key == "error":
            failed(value, (key,), pieces)
        elif value is None or type(value) in (int, float, bool):
            if key not in _COUNTS:
                opaque({key: None}, (), pieces)
        elif key in ENVELOPE or key == "obfuscation":  # the latter is random filler against traffic analysis
            self._envelope.check(value, (key,), pieces)
        elif key == "usage":
            pieces.append(Piece(PieceKind.USAGE, path=(key,), value=value))
            opaque(value, (key,), pieces)
        else:
            opaque({key: value}, (), pieces)

    def _strange(self, why: str) -> None:
        """The chunk is not what the format says ("": it is). What stands in it is still read."""
        self.unknown = self.unknown or why

    def close(self) -> list[Piece]:
        return self._stops()

    def _name(self, data: dict[str, Any]) -> None:
        id, model = data.get("id"), data.get("model")
        self.id = id if isinstance(id, str) else ""
        self.model = model if isinstance(model, str) else ""

    def _stops(self) -> list[Piece]:
        found: list[Piece] = []
        for choice in self._choices.values():
            for block in (*choice.texts.all.values(), *choice.calls.all):
                if not block.closed:
                    block.closed = choice.finished or self._done
                    found.append(Piece(PieceKind.STOP, block=block))
        self._choices = {}
        return found

    def _read_choices(self, choices: Any, pieces: list[Piece]) -> None:
        if type(choices) is not list:
            if choices is not None:
                self._strange(no_list(choices, ("choices",), [], pieces))
            return
        if len(choices) > 1:
            choices = self._said_once(choices, pieces)
        for at, raw in enumerate(choices):
            path = ("choices", at)
            if type(raw) is not dict:
                opaque(raw, path, pieces)
                pieces.append(leaves_as(path, DELETE))
                self._strange("a choice that is no object")
                continue
            number: Any = raw.get("index")
            choice = self._choices.get(number) if type(number) is int else None
            if choice is None or number == MAX_CHOICES:
                if self._done:
                    # most clients have stopped reading; the others append this to what came before
                    self._unread(choices, "choices after [DONE]", pieces)
                    return
                choice = self._choice(number, path, pieces)
            self._read_choice(choice, raw, path, pieces)

    def _unread(self, choices: Any, why: str, pieces: list[Piece]) -> None:
        """What some clients do not read does not leave."""
        opaque(choices, ("choices",), pieces)
        pieces.append(leaves_as(("choices",), []))
        self._strange(why)

    def _said_once(self, choices: list[Any], pieces: list[Piece]) -> list[Any]:
        """Of a choice that stands twice in a chunk many clients read the first only: the second leaves with nothing said."""
        found: list[Any] = []
        here: set[int] = set()
        for at, raw in enumerate(choices):
            if type(raw) is dict:
                number = choice_of(raw.get("index"), last=self._last_choice)
                raw = self._unsaid(raw, ("choices", at), pieces) if number in here else raw
                here.add(number)
            found.append(raw)
        return found

    def _unsaid(self, raw: dict[str, Any], path: Path, pieces: list[Piece]) -> dict[str, Any]:
        for key, left in (("delta", {}), ("message", DELETE)):
            if raw.get(key):
                opaque(raw[key], (*path, key), pieces)
                pieces.append(leaves_as((*path, key), left))
                self._strange("a choice twice in one chunk")
        return {key: one for key, one in raw.items() if key not in ("delta", "message")}

    def _choice(self, index: Any, path: Path, pieces: list[Piece]) -> Choice:
        """A choice that is new, or whose index is not spelled as usual."""
        number, why = read_choice_index(index, 0, path, pieces, self._last_choice)
        if why:
            self._strange(why)
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = Choice(number, self._envelope)
        return choice

    def _read_choice(self, choice: Choice, raw: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
        finish = message = None
        for key, value in raw.items():
            if value is None:
                if key not in _CHOICE:
                    opaque({key: None}, path, pieces)
            elif key == "index":
                if type(value) is not int:
                    opaque(value, (*path, key), pieces)
            elif key == "delta":
                self._read_delta(choice, value, (*path, key), pieces)
            elif key == "finish_reason":
                finish = self._checked(value, (*path, key), type(value) is str, pieces)
            elif key == "logprobs":
                self._read_logprobs(choice, raw, value, path, pieces)
            elif key == "message":
                message = value
            else:
                opaque({key: value}, path, pieces)
        if message is not None:  # behind the delta, which it may repeat
            self._strange(
                choice.read_message(message, raw.get("delta"), (*path, "message"), self._odd, pieces)
            )
            # the same frame once more may say what has been said
            self.repeats = self.repeats and not choice.in_messages
        if finish is not None:
            self._read_finish(choice, finish, (*path, "finish_reason"), pieces)

    def _read_finish(self, choice: Choice, finish: str, path: Path, pieces: list[Piece]) -> None:
        self._envelope.check(finish, path, pieces)
        choice.finished = choice.finished or bool(finish)
        if finish:
            pieces.append(Piece(PieceKind.FINISH, path=path, text=finish, value=choice.number))

    def _checked(self, value: Any, path: Path, fitting: bool, pieces: list[Piece]) -> Any:
        """The value, if it fits: what does not, does not leave."""
        if fitting:
            return value
        opaque(value, path, pieces)
        pieces.append(leaves_as(path, None))
        self._strange(f"a {path[-1]} that does not fit")
        return None

    def _read_delta(self, choice: Choice, delta: Any, path: Path, pieces: list[Piece]) -> None:
        if type(delta) is not dict or (choice.in_messages and speaks(delta)):
            opaque(delta, path, pieces)
            pieces.append(leaves_as(path, {}))
            self._strange("a delta that does not fit")
            return
        for key, value in delta.items():
            if value is None:
                if key not in DELTA:
                    opaque({key: None}, path, pieces)
                continue
            channel = CHANNELS.get(key)
            if channel is not None:
                texts = choice.texts
                if channel != "reasoning" or key == texts.reasoning:
                    why = texts.read(key, channel, value, (*path, key), pieces)
                else:
                    why = texts.read_reasoning(key, delta, path, pieces)
                if why:
                    self._strange(why)
            elif key == "tool_calls":
                self._read_calls(choice, value, (*path, key), pieces)
            elif key == "function_call":
                why = choice.calls.read_legacy(value, choice.number, (*path, key), pieces)
                if why:
                    self._strange(why)
            else:
                if key == "annotations" and not are_annotations(value) and any(map(delta.get, _SAID)):
                    self._odd[(*path, key)] = value
                choice.read_other(key, key, value, (*path, key), self._odd, pieces)

    def _read_logprobs(
        self, choice: Choice, raw: dict[str, Any], value: Any, path: Path, pieces: list[Piece]
    ) -> None:
        if self._checked(value, (*path, "logprobs"), are_logprobs(value), pieces) is None:
            return
        delta = raw.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        block = choice.texts.all.get("content")
        logprobs_of(value, (*path, "logprobs"), block, text if isinstance(text, str) else "", pieces)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _read_calls(self, choice: Choice, calls: Any, path: Path, pieces: list[Piece]) -> None:
        if type(calls) is not list:
            self._strange(no_list(calls, path, DELETE, pieces))
            pieces.append(leaves_as(path, DELETE))
            return
        if len(calls) == 1:
            why = choice.calls.read(calls[0], choice.number, (*path, 0), self._envelope, pieces)
        else:
            why = choice.calls.read_several(calls, choice.number, path, self._envelope, pieces)
        if why:
            self._strange(why)


def _say_something(choices: Any) -> bool:
    deltas = [each.get("delta") for each in choices if type(each) is dict] if type(choices) is list else []
    said = [delta.items() for delta in deltas if type(delta) is dict]
    return any(value and key != "role" for items in said for key, value in items)


# members that are known, so that their names need no look
_COUNTS = frozenset({"created", "usage", "error", *ENVELOPE, "obfuscation"})
_CHOICE = frozenset({"logprobs", "finish_reason", "delta"})
_SAID = ("content", "refusal", "tool_calls")
