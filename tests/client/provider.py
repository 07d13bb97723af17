"""A provider on loopback that says what a test tells it to, in a thread of its own: litellm talks to it over a socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = [
    "Provider",
    "chat_body",
    "chat_events",
    "message_body",
    "message_events",
    "response_body",
    "response_events",
]


class Provider:
    """`bodies` are the requests so far. Answers are taken in turn, the last one for ever: a mapping is a JSON body,
    (status, mapping) an error, a list of events a stream. `PAUSE` in a stream waits until `go` is set or the peer is
    gone, which sets `gone`."""

    PAUSE = object()

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.go = threading.Event()
        self.gone = threading.Event()
        self.paused = threading.Event()
        self.url = ""

    def next_answer(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - five small methods
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            provider.bodies.append(json.loads(body))
            answer = provider.next_answer()
            if isinstance(answer, list):
                self._stream(answer)
            else:
                status, data = answer if isinstance(answer, tuple) else (200, answer)
                self._json(status, data)

        def _json(self, status: int, data: Mapping[str, Any]) -> None:
            raw = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, events: Iterable[Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                for event in events:
                    if event is Provider.PAUSE:
                        self._pause()
                    else:
                        self.wfile.write(_frame(event))
                        self.wfile.flush()
            except OSError:  # the peer may hang up in any of these lines
                provider.gone.set()

        def _pause(self) -> None:
            """Until `go`; an error when the peer hung up instead."""
            provider.paused.set()
            self.connection.settimeout(0.02)
            while not provider.go.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        raise ConnectionResetError
                except TimeoutError:
                    continue

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


def _frame(event: Any) -> bytes:
    if isinstance(event, bytes):
        return event
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


@contextmanager
def serving() -> Iterator[Provider]:
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(provider))
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.go.set()
        server.shutdown()
        server.server_close()
        thread.join()


# -- what providers say ------------------------------------------------------------------------------------------------

_USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chat_body(*texts: str, calls: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    tools = [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, **({"tool_calls": tools} if tools else {})},
                "finish_reason": "tool_calls" if tools else "stop",
            }
            for index, text in enumerate(texts)
        ],
        "usage": _USAGE,
    }


def _chat_chunk(delta: Mapping[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": index, "delta": dict(delta), "finish_reason": finish}],
    }


def chat_events(
    *parts: Any, calls: Iterable[tuple[str, str]] = (), finish: str | None = None, choices: int = 1
) -> list[Any]:
    calls = list(calls)
    events: list[Any] = [_chat_chunk({"role": "assistant", "content": ""}, index=at) for at in range(choices)]
    for part in parts:
        if isinstance(part, str):
            events += [_chat_chunk({"content": part}, index=at) for at in range(choices)]
        else:
            events.append(part)
    for at, (name, arguments) in enumerate(calls):
        head = {
            "index": at,
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        events.append(_chat_chunk({"tool_calls": [head]}))
        for cut in (arguments[:5], arguments[5:]):
            events.append(_chat_chunk({"tool_calls": [{"index": at, "function": {"arguments": cut}}]}))
    end = finish or ("tool_calls" if calls else "stop")
    events += [_chat_chunk({}, end, index=at) for at in range(choices)]
    return [*events, b"data: [DONE]\n\n"]


def message_body(text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }


def message_events(*parts: Any) -> list[Any]:
    start = {**message_body(""), "content": [], "stop_reason": None}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part}}
        if isinstance(part, str)
        else part
        for part in parts
    ]
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    ]


def response_body(text: str, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": [part]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-4o",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "usage": {
            "input_tokens": 3,
            "output_tokens": 4,
            "total_tokens": 7,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def response_events(*parts: Any) -> list[Any]:
    text = "".join(part for part in parts if isinstance(part, str))
    begun = {**response_body("", "in_progress"), "output": [], "usage": None}
    item = response_body(text)["output"][0]
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = item["content"][0]
    events: list[Any] = [
        {"type": "response.created", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **at, "delta": each, "logprobs": []}
            if isinstance(each, str)
            else each
            for each in parts
        ),
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response_body(text)},
    ]
    for number, event in enumerate(events):
        if isinstance(event, dict):
            event["sequence_number"] = number
    return events
