"""openai.responses: items that are added, filled and done, each text told three times, the whole answer at the end."""

from __future__ import annotations

from typing import Any

from luthien_guard.testing.rendering.parts import Rendering, broken_body, failed, stream_of, with_end
from luthien_guard.testing.rendering.responses.frames import Frames
from luthien_guard.testing.rendering.responses.objects import call_item, item_of, response_of
from luthien_guard.testing.script import Failure, Say, Script, Step, Unknown, UseTool

__all__ = ["render"]


def render(script: Script, *, stream: bool) -> Rendering:
    refused = failed(script, _error)
    if refused is not None:
        return refused
    if not stream:
        return broken_body(script, _body(script), _error)
    frames = Frames(script)
    return stream_of(script, frames.of, frames.end)


def _body(script: Script) -> dict[str, Any]:
    steps = tuple(with_end(script))
    body = response_of(script, steps, _items(steps))
    return body | {step.name: {"note": step.text} for step in steps if isinstance(step, Unknown)}


def _items(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    said: list[Say] = []

    def close() -> None:
        if said:
            text = "".join(each.text for each in said)
            items.append(item_of(said[0].channel, text, len(items), "completed"))
            said.clear()

    for step in steps:
        if isinstance(step, Say):
            if said and said[0].channel != step.channel:
                close()
            said.append(step)
        elif isinstance(step, UseTool):
            close()
            items.append(call_item(step, len(items)))
    close()
    return items


def _error(failure: Failure) -> dict[str, Any]:
    return {"error": {"message": failure.message, "type": failure.code, "param": None, "code": failure.code}}
