"""Recorded traffic as an upstream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.upstreams.recordings import best, load, shape_of
from luthien_guard.testing import Script, render
from tests.gateway.harness import ENDS, FORMATS, PATHS, gateway, request
from tests.recordings import FOLDER, needs_recordings, recordings


def recorded(
    folder: Path,
    id: str,
    wire_format: str,
    body: bytes,
    *,
    stream: bool,
    request: Any = None,
    **response: Any,
) -> None:
    raw = {
        "id": id,
        "api": wire_format,
        "stream": stream,
        "provider": "openai",
        "request": {"body": request} if request is not None else None,
        "response": {"status": 200, "headers": {}, "body_text": body.decode(), **response},
    }
    (folder / f"{id}.json").write_text(json.dumps(raw))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asked = {
        "question": {
            "model": "m",
            "messages": [{"role": "user", "content": "where?"}],
            "tools": [{"name": "ls"}],
        },
        "result": {
            "model": "m",
            "messages": [{"role": "user", "content": "where?"}, {"role": "tool", "content": "."}],
        },
    }
    said = {"question": Script().tool_call("ls"), "result": Script().text("Here.")}
    for id, script in said.items():
        for stream in (True, False):
            body = render(script, "openai.chat", stream=stream).body
            recorded(tmp_path, f"{id}{int(stream)}", "openai.chat", body, stream=stream, request=asked[id])
    (tmp_path / "notes.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


def replay(folder: Path, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(replay=str(folder), **{"pace": 0, **more})


def test_the_one_that_fits_is_played(folder: Path) -> None:
    history: list[Any] = [{"role": "user", "content": "where?"}]
    with gateway([replay(folder)]) as gate:
        for stream in (True, False):
            first = gate.model("openai.chat", stream=stream, messages=history, tools=[{"name": "ls"}])
            then = gate.model(
                "openai.chat", stream=stream, messages=[*history, {"role": "tool", "content": "x"}]
            )
            assert first.headers["x-luthien-recording"] == f"question{int(stream)}" or b"ls" in first.body
            assert b"tool_calls" in first.body and b"Here." in then.body


def test_a_recording_can_be_named(folder: Path) -> None:
    with gateway([replay(folder)]) as gate:
        by_header = gate.ask(
            "/v1/chat/completions", request("openai.chat"), headers={"x-luthien-recording": "result1"}
        )
        by_model = gate.model("openai.chat", model="demo-result1")
        by_field = gate.model("openai.chat", metadata={"recording": "result1"})
    assert b"Here." in by_header.body
    assert by_header.body == by_model.body == by_field.body


def test_nothing_that_fits_is_said_so(folder: Path) -> None:
    with gateway([replay(folder)]) as gate:
        answer = gate.model("anthropic.messages")
    assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")


def test_a_folder_without_recordings_is_an_error_at_start(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ConfigError, match="replay"):
            load(str(folder))


async def test_the_pace_is_the_recorded_one_or_none(tmp_path: Path) -> None:
    from luthien_guard.gateway.upstreams.replay import _timed

    body = b"data: 1\n\ndata: 2\n\n"
    assert _timed(body, {"chunk_lens": [4, 14], "chunk_times": [1.0, 1.5]}, 0.5) == [
        (0.5, body[:4]),
        (0.25, body[4:]),
    ]
    assert _timed(body, {"chunk_lens": [5]}, 0) == [(0, b"data: 1\n\n"), (0, b"data: 2\n\n")]
    assert b"".join(part for _, part in _timed(body.replace(b"\n", b"\r\n"), {}, 1)) == body.replace(
        b"\n", b"\r\n"
    )


def test_no_json_upsets_the_choice() -> None:
    for odd in (
        {},
        {"messages": 1},
        {"input": [None, 3]},
        {"tools": {"a": 1}},
        {"messages": [{"content": [1]}]},
    ):
        assert best([], "openai.chat", True, shape_of(odd)) is None


@needs_recordings
@pytest.mark.parametrize("wire_format", FORMATS)
def test_every_recorded_stream_plays_as_it_was(wire_format: str) -> None:
    found = [each for each in recordings(wire_format) if each.stream and each.status == 200 and each.body][
        ::9
    ]
    with gateway([replay(FOLDER)]) as gate:
        for each in found:
            answer = gate.ask(
                PATHS[wire_format],
                request(wire_format, stream=each.stream),
                headers={"x-luthien-recording": each.id},
            )
            assert answer.body == each.body, each.id


@needs_recordings
@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("stream", [True, False])
def test_any_request_gets_an_answer_that_ends(wire_format: str, stream: bool) -> None:
    with gateway([replay(FOLDER)], ["noop"]) as gate:
        answer = gate.model(wire_format, stream=stream, model="whatever")
        assert answer.status == 200
        assert gate.outcome(answer) == "success"
        assert not stream or ENDS[wire_format] in answer.body or b"response.incomplete" in answer.body


async def test_calls_of_a_store_are_replayed_piece_by_piece(tmp_path: Path) -> None:
    """What one guard captured, a gateway plays again: the same bytes, cut in the same places."""
    from luthien_guard import Guard, GuardMiddleware
    from tests.asgi_drive import ask
    from tests.asgi_drive import replay as saying
    from tests.faults.killed import REQUEST, STREAM

    url = f"sqlite:///{tmp_path}/g.db"
    guard = Guard(store=url, capture_chunks=True)
    body = b"".join(STREAM)
    app = GuardMiddleware(
        saying(body, status=200, content_type="text/event-stream", cuts=[7, 300]), guard=guard
    )
    async with guard:
        first = await ask(app, "/v1/chat/completions", REQUEST)
    (recording,) = load(url)
    assert recording.id == first.header("x-luthien-call-id")
    response = recording.response()
    assert response["chunk_lens"] == [7, 300, len(body) - 307]
    with gateway([UpstreamSettings(replay=url, pace=0)]) as gate:
        assert gate.ask("/v1/chat/completions", json.loads(REQUEST)).body == body
    with pytest.raises(ConfigError, match="capture_chunks"):
        load("memory://")
