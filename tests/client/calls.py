"""What the tests of the client share: policies, ways to call, a plane that counts and can be stopped at a step."""

from __future__ import annotations

from typing import Any

import anyio

from luthien_guard import Abort, Block, Guard, Policy, Retry, hookimpl
from luthien_guard.exchange import Outcome
from tests.client.provider import Provider

__all__ = [
    "MESSAGES",
    "Aborts",
    "BlocksCalls",
    "BlocksRequests",
    "BlocksText",
    "Retries",
    "Steps",
    "Upper",
    "ask",
    "counted",
    "holders_of",
    "text_of",
]

MESSAGES = [{"role": "user", "content": "hello"}]


class Upper(Policy):
    name = "upper"

    @hookimpl
    def on_content_chunk(self, chunk: Any, ctx: Any) -> Any:
        return chunk.replace(text=chunk.text.upper())


class BlocksText(Policy):
    name = "no-secrets"

    @hookimpl
    def on_content_completed(self, content: Any, ctx: Any) -> Any:
        return Block("it says SECRET", "That is secret.") if "SECRET" in content.text else None


class BlocksRequests(Policy):
    name = "no-questions"

    @hookimpl
    def on_request_started(self, request: Any, ctx: Any) -> Any:
        return Block("no questions", "No questions, please.")


class BlocksCalls(Policy):
    name = "no-calls"

    @hookimpl
    def on_tool_call_completed(self, call: Any, ctx: Any) -> Any:
        return Block("no calls")


class Aborts(Policy):
    name = "aborts"

    @hookimpl
    def on_content_chunk(self, chunk: Any, ctx: Any) -> Any:
        return Abort("enough") if "SECRET" in chunk.text else None


class Retries(Policy):
    """Asks again, another model if given, while the answer says "again"."""

    name = "retries"
    hold = "response"

    def __init__(self, model: str | None = None) -> None:
        self.model = model

    @hookimpl
    def on_response_completed(self, response: Any, ctx: Any) -> Any:
        return Retry("not good", self.model) if "again" in response.text else None


class Steps:
    """A control plane in front of another: counts closes, and stands still at the step named `stop`."""

    def __init__(self, inner: Any, stop: str = "") -> None:
        self.inner = inner
        self.stop = stop
        self.stopped = anyio.Event()
        self.closed: list[tuple[str, Outcome | None]] = []

    async def step(self, name: str) -> None:
        if name == self.stop:
            self.stopped.set()
            await anyio.sleep_forever()

    async def decide_request(self, *args: Any) -> Any:
        await self.step("decide")
        return await self.inner.decide_request(*args)

    async def open_stream(self, context: Any) -> Any:
        await self.step("open")
        return _Stream(self, await self.inner.open_stream(context))

    async def close(self, call_id: str, outcome: Outcome | None = None) -> Outcome:
        self.closed.append((call_id, outcome))
        return await self.inner.close(call_id, outcome)


class _Stream:
    def __init__(self, steps: Steps, inner: Any) -> None:
        self._steps = steps
        self._inner = inner

    async def feed(self, data: bytes, *, last: bool = False) -> Any:
        await self._steps.step("feed last" if last else "feed")
        return await self._inner.feed(data, last=last)

    async def settle(self) -> Any:
        await self._steps.step("settle")
        return await self._inner.settle()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def counted(*policies: Any, stop: str = "", **settings: Any) -> tuple[Guard, Steps]:
    guard = Guard(policies, **settings)
    steps = Steps(guard.plane, stop)
    guard.plane = steps  # type: ignore[assignment]
    return guard, steps


async def ask(guard: Guard, provider: Provider, **kwargs: Any) -> Any:
    """`guard.acompletion` against the provider on loopback."""
    given = {"model": "openai/gpt-4o", "messages": MESSAGES, "num_retries": 0, "max_retries": 0, **kwargs}
    return await guard.acompletion(api_base=f"{provider.url}/v1", api_key="secret-key", **given)


async def text_of(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def holders_of(text: str, stream: Any) -> list[str]:
    """The attributes under which a guarded stream, or what it passes on of litellm's, shows the text."""
    inner = vars(stream)["_inner"]
    own = {name for name in vars(stream) if name.startswith("_")}
    names = {*dir(stream), *dir(inner), *vars(inner)} - own - {"__dict__"}
    found = {name: getattr(stream, name, "") for name in names}
    return [name for name, value in found.items() if value is not stream and text in _shown(value)]


def _shown(value: Any) -> str:
    """With what litellm's objects hold, which do not say so themselves."""
    return f"{value!r}{getattr(value, '__dict__', '')!r}"
