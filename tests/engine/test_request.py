"""The request under its policies: what they see is what is sent, whatever they do to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ChatRequest, Guard, Policy, PolicyContext, Retry, hookimpl
from luthien_guard.control_plane.service import PolicyResult, RequestDecision, StreamingContext
from luthien_guard.exchange import OutcomeStatus, RequestMetadata
from luthien_guard.records import EventType
from luthien_guard.testing import WIRE_FORMATS, Script, render

pytestmark = pytest.mark.anyio

BODIES = {
    "openai.chat": b'{"model":"m","messages":[{"role":"user","content":"my SECRET"}]}',
    "anthropic.messages": b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"my SECRET"}]}',
    "openai.responses": b'{"model":"m","input":[{"role":"user","content":"my SECRET"}]}',
}


class Started(Policy):
    def __init__(self, does: Any) -> None:
        self._does = does

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Any:
        return self._does(request)


class Completed(Policy):
    def __init__(self, does: Any) -> None:
        self._does = does

    @hookimpl
    def on_request_completed(self, request: ChatRequest, ctx: Any) -> Any:
        return self._does(request, ctx)


async def decided(guard: Guard, wire_format: str = "openai.chat") -> PolicyResult[RequestDecision]:
    return await guard.plane.decide_request(RequestMetadata("c", 0.0), wire_format, BODIES[wire_format])


def of_type(guard: Guard, type: EventType) -> list[Any]:
    return [record for record in guard.records_of("c") if record.type is type]


def redacts_in_place(request: ChatRequest) -> ChatRequest:
    messages = request.messages
    for message in messages:
        message["content"] = message["content"].replace("SECRET", "[gone]")
    return request.replace(messages=messages)


def redacts_and_says_nothing(request: ChatRequest) -> None:
    redacts_in_place(request)


@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
@pytest.mark.parametrize("does", [redacts_in_place, redacts_and_says_nothing])
async def test_what_was_changed_in_place_is_sent_and_on_record(does: Any, wire_format: str) -> None:
    seen: list[Any] = []
    guard = Guard(
        [Started(does), Completed(lambda request, ctx: seen.append((request.raw, ctx.request.raw)))]
    )
    result = await decided(guard, wire_format)
    assert b"SECRET" not in result.value.body
    assert b"[gone]" in result.value.body
    assert "SECRET" not in repr(seen)
    assert [record.policy for record in of_type(guard, EventType.CHANGED)] == ["started"]


async def test_a_shadow_that_changes_in_place_changes_nothing() -> None:
    seen: list[Any] = []
    looks = Completed(lambda request, ctx: seen.append(request.raw))
    guard = Guard([{"use": Started(redacts_in_place), "mode": "shadow"}, looks])
    result = await decided(guard)
    assert result.value.body == BODIES["openai.chat"]
    assert "SECRET" in repr(seen)
    assert not of_type(guard, EventType.CHANGED)


@pytest.mark.parametrize("mode", ["shadow", "enforce"])
async def test_nobody_changes_in_place_what_others_have_a_last_look_at(mode: str) -> None:
    def finds(request: ChatRequest, ctx: Any) -> Block | None:
        return Block("a secret") if "SECRET" in repr((request.raw, ctx.request.raw)) else None

    hides = Completed(lambda request, ctx: redacts_and_says_nothing(request))
    guard = Guard([{"use": hides, "mode": mode}, Completed(finds)])
    result = await decided(guard)
    assert not result.allowed


@pytest.mark.parametrize("hides_first", [True, False])
async def test_no_member_of_a_group_changes_in_place_what_another_one_judges(hides_first: bool) -> None:
    class Hides(Policy):
        waits = True

        @hookimpl
        async def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> None:
            redacts_and_says_nothing(request)
            redacts_and_says_nothing(ctx.request)

    class Finds(Policy):
        waits = True

        @hookimpl
        async def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> None:
            seen.append(request.raw == ctx.request.raw and "SECRET" in repr(request.raw))

    seen: list[bool] = []
    members = [Hides(), Finds()] if hides_first else [Finds(), Hides()]
    guard = Guard([{"use": each, "group": "g"} for each in members])
    result = await decided(guard)
    assert (seen, result.value.body) == ([True], BODIES["openai.chat"])


@pytest.mark.parametrize(("was", "becomes"), [(1, True), (1, 1.0), (1.0, 1), (True, 1), (0, False)])
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("mode", ["shadow", "enforce"])
async def test_what_python_takes_for_equal_is_a_change(
    was: Any, becomes: Any, in_place: bool, mode: str
) -> None:
    def does(request: ChatRequest) -> ChatRequest | None:
        if in_place:
            request.raw["stream_options"]["deep"][0] = becomes
            return None
        return request.replace(stream_options={"deep": [becomes]})

    seen: list[Any] = []
    looks = Completed(lambda request, ctx: seen.append(request.raw))
    guard = Guard([{"use": Started(does), "mode": mode}, looks])
    body = json.dumps({"model": "m", "messages": [], "stream_options": {"deep": [was]}}).encode()
    result = await guard.plane.decide_request(RequestMetadata("c", 0.0), "openai.chat", body)
    assert repr(json.loads(result.value.body)) == repr(seen[0])
    (sent,) = seen[0]["stream_options"]["deep"]
    assert repr(sent) == repr(becomes if mode == "enforce" else was)
    changed = [record.details["request"] for record in of_type(guard, EventType.CHANGED)]
    assert changed == ([["stream_options"]] if mode == "enforce" else [])


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1, 2}, b"x", "\ud800", object(), {1: 2}, cycle(), 10**5000, ("a", {"b"})],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("on_error", ["block", "allow"])
async def test_what_cannot_be_sent_is_a_failure_of_the_policy(value: Any, on_error: str) -> None:
    does = Started(lambda request: request.replace(user=value))
    guard = Guard([{"use": does, "on_error": on_error}])
    result = await decided(guard)
    fine = value == {1: 2}  # JSON's keys are strings: written as one
    assert result.allowed == (on_error == "allow" or fine)
    if not fine:
        assert len(of_type(guard, EventType.POLICY_ERROR)) == 1
        assert result.value.body == BODIES["openai.chat"]


async def test_why_a_request_cannot_be_sent_is_told() -> None:
    guard = Guard([Started(lambda request: request.replace(messages="hello"))])
    await decided(guard)
    (failure,) = of_type(guard, EventType.POLICY_ERROR)
    assert (
        "not a request that can be sent (MalformedBody: messages is str, not list)"
        in failure.details["error"]
    )


async def test_the_last_look_is_at_the_model_that_a_retry_asks() -> None:
    class Retries(Policy):
        @hookimpl
        def on_response_started(self) -> Retry:
            return Retry("again", model="other")

    asked: list[tuple[str, str]] = []

    def only(request: ChatRequest, ctx: Any) -> Block | None:
        asked.append((request.model, ctx.request.model))
        return Block("not that one") if request.model == "other" else None

    guard = Guard([Retries(), Completed(only)])
    await decided(guard)
    stream = await guard.plane.open_stream(StreamingContext("c", "openai.chat", 200, True))
    body = render(Script().text("xyzzy"), "openai.chat", stream=True).body
    release = await stream.feed(body, last=True)
    assert release.retry is None
    assert b"xyzzy" not in release.data
    assert asked == [("m", "m"), ("other", "other")]
    outcome = await guard.plane.close("c")
    assert (outcome.status, outcome.policy) == (OutcomeStatus.BLOCKED, "completed")


async def test_a_retry_asks_with_what_was_sent_whatever_policies_did_to_theirs() -> None:
    class Retries(Policy):
        @hookimpl
        def on_response_started(self, response: Any, ctx: PolicyContext) -> Retry:
            redacts_and_says_nothing(ctx.request)
            return Retry("again", model="other")

    seen: list[str] = []
    guard = Guard([Retries(), Completed(lambda request, ctx: seen.append(repr(request.raw)))])
    await decided(guard)
    stream = await guard.plane.open_stream(StreamingContext("c", "openai.chat", 200, True))
    release = await stream.feed(render(Script().text("x"), "openai.chat", stream=True).body, last=True)
    assert release.retry is not None
    assert [repr(json.loads(each)) for each in (BODIES["openai.chat"], release.retry)] == seen


async def test_where_nothing_names_a_model_a_retry_asks_the_same_again() -> None:
    class Retries(Policy):
        @hookimpl
        def on_response_started(self) -> Retry:
            return Retry("again", model="other")

    guard = Guard([Retries()])
    await guard.plane.decide_request(RequestMetadata("c", 0.0), "openai.responses", b"")
    stream = await guard.plane.open_stream(StreamingContext("c", "openai.responses", 200, False))
    release = await stream.feed(render(Script().text("x"), "openai.responses", stream=False).body, last=True)
    assert release.retry == b""


@pytest.mark.parametrize("model", [5, "\ud800"])
async def test_a_model_that_is_none_is_told_where_it_is_named(model: Any) -> None:
    with pytest.raises((AttributeError, UnicodeEncodeError)):
        Retry("again", model=model)


async def test_words_that_are_no_words_are_no_reason_not_to_block() -> None:
    assert Block(404, message=[1]) == Block("404", message="[1]")  # type: ignore[arg-type]
