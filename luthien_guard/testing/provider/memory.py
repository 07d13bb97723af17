"""What a provider remembers of its own answers: responses under their ids, and which thinking was signed how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luthien_guard.testing.provider.complaint import Complaint

__all__ = ["Memory"]


class Memory:
    """Filled with the bytes of each answer."""

    def __init__(self) -> None:
        self.responses: dict[str, Mapping[str, Any]] = {}
        self.inputs: dict[str, list[Any]] = {}
        self._signed: dict[str, str] = {}

    def open_calls(self, previous: Any) -> Sequence[str] | None:
        """The ids of the calls that this response made; None when there is no such response."""
        response = self.responses.get(previous) if isinstance(previous, str) else None
        if response is None:
            return None
        kinds = ("function_call", "custom_tool_call")
        return [item["call_id"] for item in response.get("output") or () if item.get("type") in kinds]

    def check_thinking(self, request: Mapping[str, Any]) -> None:
        """A thinking block that comes back changed has a signature that is not its own."""
        for at, message in enumerate(request.get("messages") or ()):
            content = message.get("content") if isinstance(message, dict) else None
            for number, block in enumerate(content if isinstance(content, list) else ()):
                known = self._signed.get(str(block.get("signature"))) if isinstance(block, dict) else None
                if known is not None and block.get("thinking") != known:
                    raise Complaint(
                        f"messages.{at}.content.{number}: Invalid `signature` in `thinking` block"
                    )

    def keep(self, wire_format: str, request: Mapping[str, Any], body: bytes) -> None:
        """Note what was answered; bytes that are no answer leave nothing."""
        for data in _objects(body):
            if wire_format == "openai.responses":
                self._keep_response(request, data.get("response", data))
            elif wire_format == "anthropic.messages":
                self._keep_thinking(data)

    def _keep_response(self, request: Mapping[str, Any], response: Any) -> None:
        if not isinstance(response, dict) or request.get("store") is False:
            return
        if isinstance(response.get("id"), str) and response.get("object") == "response":
            given = request.get("input")
            self.responses[response["id"]] = response
            self.inputs[response["id"]] = given if isinstance(given, list) else [given]

    def _keep_thinking(self, data: Mapping[str, Any]) -> None:
        for block in data.get("content") or ():
            if isinstance(block, dict) and block.get("signature"):
                self._signed[block["signature"]] = block.get("thinking", "")


def _objects(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer: the body itself, or the data of its events."""
    lines = [line[5:] for line in body.split(b"\n") if line.startswith(b"data:")] or [body]
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            yield data
