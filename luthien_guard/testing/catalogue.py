"""Scripts that every policy must survive: the shapes that answers really have, and the ways in which they break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luthien_guard.testing.script import Script

__all__ = ["BROKEN", "ORDINARY", "PROMPTS"]

#: A combining sign, a family of joined emoji, right-to-left text, escapes: cuts must not show in them. No U+2028: some
#: clients take it for a line's end, so it leaves escaped and would not be "unchanged".
UNUSUAL: Final = 'na\u00efve e\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \u0634\u0643\u0631\u0627 \\ " \t end'

ORDINARY: Final[Mapping[str, Script]] = {
    "a text": Script().text("The quick brown fox ").text("jumps over ").text("the lazy dog."),
    "an empty answer": Script().finish("stop"),
    "a text that was cut by its length": Script().text("And then the ").finish("length"),
    "unusual characters": Script().text(UNUSUAL),
    "a tool call": Script().text("Let me look. ").tool_call("bash", {"command": "ls -la", "timeout": 5}),
    "a tool call without arguments": Script().tool_call("bash", {}),
    "several tool calls": Script()
    .tool_call("bash", {"command": "ls"})
    .tool_call("read", {"path": "a.txt"})
    .tool_call("bash", {"command": "pwd"}),
    "thinking": Script().reasoning("The user wants ").reasoning("a fox. ").text("Here is a fox."),
    "thinking, text and a call": Script()
    .reasoning("Hm. ")
    .text("Look: ")
    .tool_call("bash", {"command": "ls"}),
    "a refusal": Script().refusal("I cannot help with that.").finish("refusal"),
    "something unknown": Script().text("Hello ").unknown("a field of next year").text("world."),
    "several choices": Script().text("One.", choice=0).text("Two.", choice=1),
    "usage": Script().text("Counted.").usage(1234, 56),
}

#: How the same goes wrong; the text before it may leave, nothing else.
BROKEN: Final[Mapping[str, Script]] = {
    "an HTTP error": Script().error(429, message="slow down", code="rate_limit_error"),
    "an error in the middle": Script().text("Half of ").error(message="overloaded", code="overloaded_error"),
    "a cut inside a text": Script().text("Half of ").disconnect(),
    "a cut after a call": Script().text("Look: ").tool_call("bash", {"command": "ls"}).disconnect(),
    "silence": Script().text("Wait ").stall(),
    "a client that leaves": Script().text("Half of ").client_leaves(),
}

PROMPTS: Final = ("Hello", "", UNUSUAL)
