"""The legal order of a chat completion stream, as a table.

Per choice: deltas, then one chunk with a finish reason, then nothing. Per stream: chunks, then perhaps one with usage
and no choices, then `[DONE]`. It judges what a policy or the guard itself makes; what upstream sends only moves it on.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.chat.indices import choice_of

__all__ = ["Grammar"]

#: state of a choice -> what may come -> the next state
_TABLE: Final = {
    "new": {"delta": "open", "finish": "finished"},
    "open": {"delta": "open", "finish": "finished"},
    "finished": {},
}


class Grammar:
    """Where the stream stands. `advance` follows a chunk; with `strict` it raises IllegalOutput on an illegal one."""

    __slots__ = ("_last", "choices", "done")

    def __init__(self, last: int) -> None:
        self.choices: dict[int, str] = {}
        self._last = last
        self.done = False

    def advance(self, data: Any, *, strict: bool) -> None:
        choices = data.get("choices") if isinstance(data, dict) else None
        if strict and self.done:
            raise _illegal("a chunk after [DONE]")
        if strict and not isinstance(choices, list) and not (isinstance(data, dict) and "error" in data):
            raise _illegal("a chunk without a list of choices")
        for choice in choices if isinstance(choices, list) else ():
            self._choice(choice, strict)

    def end(self, *, strict: bool) -> None:
        """`[DONE]`."""
        if strict and self.done:
            raise _illegal("[DONE] twice")
        self.done = True

    def _choice(self, choice: Any, strict: bool) -> None:
        index = choice.get("index", 0) if isinstance(choice, dict) else None
        if strict and type(index) is not int:
            raise _illegal("a choice without an index")
        if not isinstance(choice, dict):
            return
        number: int = (
            index if type(index) is int and index in self.choices else choice_of(index, last=self._last)
        )
        state = self.choices.get(number, "new")
        delta = choice.get("delta")
        steps = ["delta"] if delta else []
        steps += ["finish"] if type(reason := choice.get("finish_reason")) is str and reason else []
        if strict and (not isinstance(delta, dict) or not steps) and state == "finished":
            raise _illegal(f"an empty delta for choice {number} after its finish_reason")
        for step in steps:
            after = _TABLE[state].get(step)
            if after is None and strict:
                raise _illegal(f"a {step} for choice {number} after its finish_reason")
            state = after or state
        self.choices[number] = state


def _illegal(what: str) -> IllegalOutput:
    return IllegalOutput(f"openai.chat: {what}", policy="", hook="")
