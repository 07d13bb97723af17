"""The places of an answer and of a request where a text can stand: what must not pass is looked for in each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from luthien_guard.testing.requests import conversation_for
from luthien_guard.testing.script import Script

__all__ = ["answers_with", "requests_with"]


def answers_with(text: str) -> dict[str, Script]:
    """By place, an answer that says `text` there."""
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    said = Script().text(f"It is {text}, as you know.")
    return {
        "a text": said,
        "a text in deltas of one character": said.split(1),
        # such a letter is two in lower case: who looks there finds other places
        "a text behind letters that grow": Script().text("\u0130" * len(text) + text),
        "a text that breaks off": Script().text(text).disconnect(),
        "two texts that are joined": Script().text(head).tool_call("bash", {}).text(tail),
        "the second choice": Script().text("No.").text(text, choice=1),
        "a thought": Script().reasoning(text).text("Well."),
        "a refusal": Script().refusal(text).finish("refusal"),
        "a field that nobody knows": Script().text("Hm.").unknown(text),
        "the name of a tool": Script().tool_call(text, {}),
        "an argument": Script().tool_call("bash", {"command": ["echo", text]}),
        "the name of an argument": Script().tool_call("bash", {text: True}),
        "an argument in escapes": Script().tool_call("bash", f'{{"command": "{_escaped(text)}"}}'),
        "an argument in an argument": Script().tool_call("bash", {"input": json.dumps({"command": text})}),
    }


def requests_with(text: str, wire_format: str) -> dict[str, Mapping[str, Any]]:
    """By place, what a request with `text` there has beside the model."""
    places = {
        "a system prompt": "system",
        "the user's words": "user",
        "an argument of an earlier call": "argument",
        "the result of a tool": "result",
        "the description of a tool": "about",
    }
    return {place: conversation_for(wire_format, **{name: text}) for place, name in places.items()}


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
