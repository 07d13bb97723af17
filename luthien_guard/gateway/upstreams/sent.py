"""What litellm really sent for one request: its own account of the call, heard in the context that asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar, Token
from functools import cache
from types import TracebackType
from typing import Any, Self

from luthien_guard.client.litellm_api import litellm
from luthien_guard.gateway.upstreams.types import Call

__all__ = ["Sent"]

_current: ContextVar[Sent | None] = ContextVar("luthien_guard_sent", default=None)


class Sent:
    """While it is entered, `body` becomes the JSON of the last request that litellm makes here; None: it said nothing."""

    def __init__(self) -> None:
        self.body: Any = None
        self._token: Token[Sent | None] | None = None

    def __enter__(self) -> Self:
        _listen()
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)

    def given(self, call: Call) -> Mapping[str, Any]:
        """The request as it came."""
        found = json.loads(call.body)
        return found if isinstance(found, dict) else {}


@cache
def _listen() -> None:
    """litellm has no such hook for one call. This one hears every call of the process, and looks at ours only."""
    from litellm.integrations.custom_logger import CustomLogger

    class Listener(CustomLogger):
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            sent = _current.get()
            if sent is not None:
                body = (kwargs.get("additional_args") or {}).get("complete_input_dict")
                sent.body = _parsed(body) if body is not None else sent.body

    litellm().callbacks.append(Listener())
    litellm().suppress_debug_info = True  # it prints requests for feedback to standard output


def _parsed(body: Any) -> Any:
    if not isinstance(body, (str, bytes)):
        return body
    try:
        return json.loads(body)
    except ValueError:
        return None
