"""`completion`, for code without an event loop."""

from __future__ import annotations

import threading
from typing import Any

import litellm
import pytest
from anyio import to_thread

from luthien_guard import Guard, completion, hookimpl
from luthien_guard.client import PolicyViolation
from tests.client.calls import MESSAGES, BlocksText, Upper, counted
from tests.client.provider import Provider, chat_body, chat_events

WORDS = [f"word{at} " for at in range(12)]


def _ask(guard: Guard, provider: Provider, **kwargs: Any) -> Any:
    return guard.completion(
        "openai/gpt-4o", MESSAGES, 30, api_base=f"{provider.url}/v1", api_key="k", **kwargs
    )


def test_the_example() -> None:
    response = completion("gpt-4o", MESSAGES, mock_response="Hello there")
    assert response.choices[0].message.content == "Hello there"


def test_whole_and_streamed(provider: Provider) -> None:
    provider.answers = [chat_body("one two"), chat_events(*WORDS), chat_body("three")]
    guard, steps = counted(Upper())
    assert _ask(guard, provider).choices[0].message.content == "ONE TWO"
    stream = _ask(guard, provider, stream=True)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    chunks = list(stream)
    assert litellm.stream_chunk_builder(chunks).choices[0].message.content == "".join(WORDS).upper()
    assert stream.chunks == chunks
    assert list(stream) == []
    assert _ask(guard, provider).choices[0].message.content == "THREE"
    assert len(steps.closed) == 3


def test_a_stream_can_be_closed_early(provider: Provider) -> None:
    provider.answers = [chat_events(*WORDS, Provider.PAUSE)]
    guard, steps = counted(Upper())
    stream = _ask(guard, provider, stream=True)
    next(stream)
    stream.close()
    stream.close()
    assert provider.gone.wait(10)
    assert len(steps.closed) == 1


@pytest.mark.anyio
async def test_async_code_can_close_a_stream(provider: Provider) -> None:
    """Where it is read, and not on the loop at hand."""
    threads: list[str] = []

    class Listens(Upper):
        @hookimpl
        def on_exchange_closed(self, outcome: Any, ctx: Any) -> None:
            threads.append(threading.current_thread().name)

    provider.answers = [chat_events(*WORDS, Provider.PAUSE)]
    guard = Guard([Listens()])
    stream = await to_thread.run_sync(lambda: _ask(guard, provider, stream=True))
    await stream.aclose()
    assert await to_thread.run_sync(provider.gone.wait, 10)
    assert threads == ["luthien_guard.completion"]


def test_exceptions_cross_the_thread(provider: Provider) -> None:
    provider.answers = [(401, {"error": {"message": "no"}}), chat_events("SECRET")]
    guard = Guard([BlocksText()])
    with pytest.raises(litellm.AuthenticationError):
        _ask(guard, provider, max_retries=0)
    with pytest.raises(PolicyViolation):
        list(_ask(guard, provider, stream=True, on_block="raise"))


@pytest.mark.anyio
async def test_beside_a_running_loop() -> None:
    response = Guard([Upper()]).completion("gpt-4o", MESSAGES, mock_response="Hello there")
    assert response.choices[0].message.content == "HELLO THERE"
    text = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in Guard([Upper()]).completion("gpt-4o", MESSAGES, mock_response="Hello there", stream=True)
    )
    assert text == "HELLO THERE"


def test_from_many_threads() -> None:
    found: dict[int, str] = {}

    def one(at: int) -> None:
        found[at] = completion("gpt-4o", MESSAGES, mock_response=f"answer {at}").choices[0].message.content

    threads = [threading.Thread(target=one, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {at: f"answer {at}" for at in range(8)}
    assert sum(thread.name == "luthien_guard.completion" for thread in threading.enumerate()) == 1
