"""When two runs of one script are alike: what must not depend on the wire format, on streaming, or on cuts."""

from __future__ import annotations

import json
from itertools import takewhile
from typing import Any, Final, NamedTuple

from luthien_guard.exchange import ChatRequest
from luthien_guard.testing.exchange import Played
from luthien_guard.testing.script import Script
from luthien_guard.testing.transcript import Called

__all__ = ["Gist", "asked", "asked_loosely", "differing", "gist", "gist_loosely", "let_out"]

#: How the answer is to come.
_TRANSPORT: Final = frozenset({"stream", "stream_options"})


class Gist(NamedTuple):
    """An answer and its end. anthropic.messages says refusals as content."""

    status: str
    policy: str | None
    spoken: str
    reasoning: str
    calls: tuple[Any, ...]
    choices: tuple[tuple[int, str], ...]  # but the first

    def like(self, other: Gist) -> bool:
        return self == other or self._ended_like(other)

    def _ended_like(self, other: Gist) -> bool:
        """Text that is blocked ends the answer, and how much of the text before it had left by then does depend on how it
        came: the same verdict and the same words for it, after more or less of the same text, and no calls."""
        if (
            self.status not in ("blocked", "policy_error")
            or self[:2] != other[:2]
            or self.calls
            or other.calls
        ):
            return False
        mine, others = dict(self.choices), dict(other.choices)
        further = ((mine.get(at, ""), others.get(at, "")) for at in {*mine, *others})
        pairs = ((self.spoken, other.spoken), (self.reasoning, other.reasoning), *further)
        return all(_extends(one, two) for one, two in pairs)


def gist(run: Played) -> Gist:
    """To the letter: the same within a wire format."""
    answer = run.transcript
    calls = tuple((call.name, _value(call)) for call in answer.tool_calls)
    further = tuple((at, text) for at, text in sorted(answer.choices.items()) if at)
    spoken = answer.text + answer.refusal
    return Gist(run.outcome.status.value, run.outcome.policy, spoken, answer.reasoning, calls, further)


def gist_loosely(run: Played) -> Gist:
    """Without white space: explanations stand in blocks of their own in some wire formats, in the text in others."""
    found = gist(run)
    return found._replace(spoken="".join(found.spoken.split()))


def asked(run: Played) -> list[Any]:
    """What upstream was asked, attempt by attempt; a policy may tell it the call's id."""
    requests = [
        {key: value for key, value in request.items() if key not in _TRANSPORT}
        for request in run.upstream.requests
    ]
    found: list[Any] = json.loads(json.dumps(requests).replace(run.call_id, "(call_id)"))
    return found


def asked_loosely(run: Played) -> list[Any]:
    """What of it every wire format has."""
    return [_neutral(ChatRequest(run.wire_format, request)) for request in asked(run)]


def differing(one: list[Any], other: list[Any]) -> str:
    """What of two that were asked is not the same, in words."""
    if len(one) != len(other):
        return f"{len(one)} requests, {len(other)} requests"
    return "; ".join(
        f"{key}: {mine.get(key)!r}, {others.get(key)!r}"
        for mine, others in zip(one, other, strict=True)
        for key in sorted({*mine, *others})
        if mine.get(key) != others.get(key)
    )


def let_out(run: Played) -> Script | None:
    """What left of upstream's texts, as an answer of its own; None where there is nothing."""
    said, left = run.upstream.transcript, run.transcript
    script = Script()
    if reasoning := _beginning(said.reasoning, left.reasoning):
        script = script.reasoning(reasoning)
    for at, text in sorted(said.choices.items()):
        if head := _beginning(text, left.choices.get(at, "")):
            script = script.text(head, choice=at)
    return script if script.steps else None


def _neutral(request: ChatRequest) -> dict[str, Any]:
    texts = [each.text for each in request.texts() if each.path[-1] not in ("role", "type")]
    return {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "texts": sorted(texts),
        "tools": sorted(
            str(tool.get("name") or (tool.get("function") or {}).get("name")) for tool in request.tools
        ),
    }


def _extends(one: str, other: str) -> bool:
    """Without their common ending, one is the beginning of the other."""
    ending = len(_beginning(one[::-1], other[::-1]))
    heads = sorted((one[: len(one) - ending], other[: len(other) - ending]), key=len)
    return heads[1].startswith(heads[0])


def _beginning(one: str, other: str) -> str:
    """Which they have in common."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(letter for letter, _ in same)


def _value(call: Called) -> Any:
    try:
        return call.parsed
    except ValueError:
        return call.arguments
