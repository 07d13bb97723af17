"""The legal order of a chat completion stream, as a table.

Per choice: deltas, then one chunk with a finish reason, then nothing. Per stream: chunks, perhaps one with usage and
no choices, then `[DONE]` or an error. What is made up here or by a policy is judged; what upstream sends moves it on.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.openai_chat.changes import ChoiceOut
from luthien_guard.wire.openai_chat.fields import number_of

__all__ = ["Grammar"]

State = Literal["new", "open", "finished"]
Step = Literal["delta", "finish"]

_TABLE: Final[dict[tuple[State, Step], State]] = {
    ("new", "delta"): "open",
    ("new", "finish"): "finished",
    ("open", "delta"): "open",
    ("open", "finish"): "finished",
}


class Grammar:
    """Where the stream stands."""

    __slots__ = ("choices", "done")

    def __init__(self) -> None:
        self.choices: dict[int, ChoiceOut] = {}
        self.done = False

    def follow(self, data: Any, *, strict: bool) -> None:
        """Move on by a chunk. With `strict` raise IllegalOutput, before anything moves, if it may not come here."""
        choices = data.get("choices") if isinstance(data, dict) else None
        if strict:
            self._check(data, choices)
        for at, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._move(choice, self.choices.setdefault(number_of(choice.get("index"), at), ChoiceOut()))

    def end(self, *, strict: bool) -> None:
        """`[DONE]`."""
        if strict and self.done:
            raise _illegal("[DONE] twice")
        self.done = True

    def _move(self, choice: dict[str, Any], out: ChoiceOut) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            out.role |= bool(delta.get("role"))
            out.said |= bool(delta.get("content"))
        out.finished |= bool(choice.get("finish_reason"))

    def _check(self, data: Any, choices: Any) -> None:
        if self.done:
            raise _illegal("a chunk after [DONE]")
        if not isinstance(data, dict):
            raise _illegal("a chunk that is no object")
        if "error" not in data and not isinstance(choices, list):
            raise _illegal("a chunk without a list of choices")
        states: dict[int, State] = {}
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or type(choice.get("index")) is not int:
                raise _illegal("a choice without an index")
            self._check_choice(choice, states)

    def _check_choice(self, choice: dict[str, Any], states: dict[int, State]) -> None:
        number, delta, finish = choice["index"], choice.get("delta"), choice.get("finish_reason")
        if not isinstance(delta, dict):
            raise _illegal(f"choice {number} without a delta")
        if finish is not None and not isinstance(finish, str):
            raise _illegal(f"choice {number} with a finish_reason that is no string")
        out = self.choices.get(number)
        state = states.get(number) or ("new" if out is None else "finished" if out.finished else "open")
        steps: list[Step] = ["delta"] if delta or not finish else []
        for step in [*steps, "finish"] if finish else steps:
            after = _TABLE.get((state, step))  # type: ignore[arg-type]
            if after is None:
                raise _illegal(f"a {step} for choice {number} after its finish_reason")
            state = after
        states[number] = state
        self._check_calls(number, delta.get("tool_calls"), out)

    def _check_calls(self, number: int, calls: Any, out: ChoiceOut | None) -> None:
        """A call begins with its id and its name; each fragment says which call it is of."""
        begun = set(out.begun) if out is not None else set[int]()
        for call in calls or ():
            index = call.get("index") if isinstance(call, dict) else None
            if type(index) is not int or index < 0:
                raise _illegal(f"a tool call of choice {number} without an index")
            payload = call.get("function") or call.get("custom")
            name = payload.get("name") if isinstance(payload, dict) else None
            if index not in begun and not (call.get("id") and name):
                raise _illegal(f"tool call {index} of choice {number} begins without an id or a name")
            begun.add(index)


def _illegal(what: str) -> IllegalOutput:
    return IllegalOutput(f"openai.chat: {what}", policy="", hook="")
