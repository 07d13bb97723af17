"""Everything that crosses the seam survives JSON, and the verdicts are the same on its far side."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, Guard, Policy, Retry, ToolCall, hookimpl
from luthien_guard.control_plane.service import Release, StreamingContext
from luthien_guard.exchange import RequestMetadata
from luthien_guard.testing import FakeJudge, Script, render
from luthien_guard.testing.remote import JsonPlane, crossed
from luthien_guard.testing.script import WIRE_FORMATS

pytestmark = pytest.mark.anyio
SCRIPT = (
    Script().text("one two hunter2").tool_call("bash", {"c": "rm"}).tool_call("bash", {"c": "ls"}).split(3)
)
REQUEST = {"model": "m", "messages": [], "input": []}


class NoRm(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("rm") if "rm" in call.arguments else None


class Again(Policy):
    @hookimpl
    def on_response_started(self, ctx: Any) -> Retry | None:
        return (
            Retry("once", model="other")
            if not ctx.scratchpad.setdefault("asked", []) and not ctx.scratchpad["asked"].append(1)
            else None
        )


def policies(name: str) -> Guard:
    made: dict[str, list[Any]] = {
        "none": [],
        "upper": [{"use": "uppercase-nth-word", "config": {"n": 1}}],
        "blocks a call": [NoRm()],
        "judges": [{"use": "tool-call-judge", "config": {"model": "j"}}],
        "blocks a word": [{"use": "default-limits", "config": {"forbidden_words": ["hunter2"]}}],
        "retries": [Again()],
    }
    return Guard(
        made[name], judge=FakeJudge({"rm": 0.9}), on_block="error" if name == "blocks a word" else "refuse"
    )


async def decide(plane: Any, wire_format: str, body: bytes, *, stream: bool) -> list[Any]:
    """Everything that a shell sees of one exchange, without ids."""
    result = await plane.decide_request(
        RequestMetadata("c", 1.5, user_id="u"), wire_format, json.dumps(REQUEST).encode()
    )
    guarded = await plane.open_stream(StreamingContext("c", wire_format, 200, stream))
    seen: list[Any] = [result]
    for last, data in ((False, body[: len(body) // 2]), (False, body[len(body) // 2 :]), (True, b"")):
        release: Release = await guarded.feed(data, last=last)
        seen.append(release)
        while release.pending:
            release = await guarded.settle()
            seen.append(release)
    seen += [guarded.keepalive(), guarded.overdue(), await guarded.fail(502, "upstream_error", "late")]
    return [*seen, await plane.close("c")]


@pytest.mark.parametrize("name", ["none", "upper", "blocks a call", "judges", "blocks a word", "retries"])
@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
@pytest.mark.parametrize("stream", [True, False])
async def test_the_far_side_decides_the_same(name: str, wire_format: str, stream: bool) -> None:
    body = render(SCRIPT, wire_format, stream=stream).body
    near = await decide(policies(name).plane, wire_format, body, stream=stream)
    far = await decide(JsonPlane(policies(name).plane), wire_format, body, stream=stream)
    assert _without_times(near) == _without_times(far)


def _without_times(seen: list[Any]) -> list[str]:
    import re

    return [re.sub(r'"?created(_at)?\\*"?: ?[0-9]+', "", repr(one)) for one in seen]


def test_a_live_object_does_not_get_through() -> None:
    with pytest.raises(TypeError, match="a live object crosses the seam"):
        crossed({"x": object()}, Any)
    release = Release(((b"\xff\x00", 3), (b"", None)), pending=1, held=7)
    assert crossed(release, Release) == release


@pytest.mark.anyio
async def test_a_request_whose_policies_are_gone_is_refused_and_on_record() -> None:
    guard = Guard()
    metadata = RequestMetadata("c", 0.0, policy_set="gone")
    result = await guard.plane.decide_request(metadata, "openai.chat", b'{"model":"m","messages":[]}')
    assert not result.allowed
    assert result.value.answer is not None
    assert result.value.answer.status == 503
    assert [record.type.value for record in guard.records_of("c")][-1] == "exchange.closed"
    assert guard.plane.reject(metadata, "openai.chat", 413, "too_large", "x").status == 413
