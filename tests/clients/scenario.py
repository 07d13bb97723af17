"""What the model says to every client, and under which policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from luthien_guard.testing import Script, read
from luthien_guard.testing.provider import Asked
from tests.recordings import Recording, recordings

__all__ = [
    "COMMANDS",
    "FINAL",
    "PLAN",
    "POLICIES",
    "SAID",
    "SECRET",
    "USE_TOOLS",
    "Said",
    "answer",
    "executed",
    "expected",
    "left_behind",
    "recorded",
]

SAID: Final = "Good morning, this is the model: naïve, 東京, 👍🏽."
FINAL: Final = "Both of them are done."
SECRET: Final = "hunter2"
PLAN: Final = {
    "prompt": "Go on.",
    "model": "scripted-model",
    "tools": ["look_up", "send"],
    "schema": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
}
ALLOWED: Final = ["look_up", {"what": "the weather"}]
FORBIDDEN: Final = ["send", {"what": f"the password is {SECRET}"}]
LATER: Final = ["look_up", {"what": "the time"}]

#: What coding agents are told to run: each command leaves a file.
COMMANDS: Final[Mapping[str, str]] = {
    "allowed.txt": "echo allowed > allowed.txt",
    "forbidden.txt": f"echo {SECRET} > forbidden.txt",
    "later.txt": "echo later > later.txt",
}
USE_TOOLS: Final = "Use your tools."
#: The shell of each agent, and the name of its argument.
_SHELLS: Final = {"Bash": "command", "exec_command": "cmd"}

#: Shipped policies, by what they do here.
POLICIES: Final[Mapping[str, str]] = {
    "none": "[]",
    "rewrites": "[{use: uppercase-nth-word, config: {n: 1}}]",
    "blocks": f"[{{use: default-limits, config: {{forbidden_words: [{SECRET}]}}}}]",
}


def answer(asked: Asked) -> Script:
    """Three calls where there are tools and none was run yet, one of them bad; else words. Cut small."""
    if _has_results(asked.body):
        return Script().text(FINAL).split(5)
    script = Script().text("I will. ")
    calls = _calls(asked)
    for name, arguments in calls:
        script = script.tool_call(name, arguments)
    return script.split(4) if calls else Script().text(SAID).split(3)


def _calls(asked: Asked) -> list[Any]:
    names = {
        tool.get("name") or tool.get("function", {}).get("name") for tool in asked.body.get("tools") or ()
    }
    for shell, argument in _SHELLS.items():
        if shell in names:
            wanted = USE_TOOLS.encode() in asked.raw
            return [[shell, {argument: command}] for command in COMMANDS.values() if wanted]
    return [ALLOWED, FORBIDDEN, LATER] if names else []


def expected(policy: str, text: str) -> str:
    return text.upper() if policy == "rewrites" else text


def executed(policy: str) -> list[Any]:
    return [ALLOWED, LATER] if policy == "blocks" else [ALLOWED, FORBIDDEN, LATER]


def left_behind(policy: str) -> set[str]:
    """The files of the commands that may run."""
    return {name for name in COMMANDS if policy != "blocks" or name != "forbidden.txt"}


@dataclass(frozen=True)
class Said:
    """A recording and the words in it."""

    id: str
    text: str


def recorded(wire_format: str, *, stream: bool, most: int = 6) -> list[Said]:
    """Answers of the official providers that are words and nothing else, spread over what there is."""
    found = [
        Said(each.id, text)
        for each in recordings(wire_format)
        if each.provider in ("openai", "anthropic") and each.stream is stream and (text := _words(each))
    ]
    return found[:: max(1, len(found) // most)][:most]


def _words(recording: Recording) -> str:
    if recording.status != 200:
        return ""
    transcript = read(recording.body, recording.api, stream=recording.stream)
    plain = not (
        transcript.tool_calls or transcript.refusal or transcript.problems or len(transcript.choices) > 1
    )
    ended = bool(transcript.finish) and all(transcript.finish)  # a preview model of 2023 gave no reason
    return (
        transcript.text if plain and ended and transcript.complete and SECRET not in transcript.text else ""
    )


def _has_results(body: Mapping[str, Any]) -> bool:
    for each in body.get("messages") or body.get("input") or ():
        if not isinstance(each, dict):
            continue
        if each.get("role") == "tool" or each.get("type") == "function_call_output":
            return True
        blocks = each.get("content")
        if isinstance(blocks, list) and any(
            isinstance(b, dict) and b.get("type") == "tool_result" for b in blocks
        ):
            return True
    return False
