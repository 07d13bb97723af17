"""The functions that stand in for litellm's: on a guard, or on the one that `POLICY_CONFIG` names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from luthien_guard.client.arguments import Arguments
from luthien_guard.client.dialects import CHAT, MESSAGES, RESPONSES, Dialect
from luthien_guard.client.exchange import ClientExchange
from luthien_guard.client.litellm_api import litellm, needs_asyncio
from luthien_guard.client.stream import GuardedIterator, chat_stream_type
from luthien_guard.client.sync import run_sync
from luthien_guard.config import config_from_environment
from luthien_guard.guard import Guard

__all__ = ["acompletion", "anthropic_messages", "aresponses", "completion", "default_guard", "guarded"]


class _Like:
    """A function with the signature of litellm's, which is looked up only when somebody asks: reading it imports
    litellm."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.__name__ = self.__qualname__ = name
        self.__doc__ = call.__doc__
        self.__module__ = __name__
        self.__wrapped__ = call
        self._call = call
        # frameworks ask `inspect.iscoroutinefunction` whether to await, and look through `__wrapped__` before
        mark = getattr(inspect, "markcoroutinefunction", None)  # Python 3.12
        if mark is not None and inspect.iscoroutinefunction(call):
            mark(self)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(getattr(litellm(), self.__name__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


@cache
def default_guard() -> Guard:
    """The guard of the module-level functions: the file that POLICY_CONFIG names, or no policies."""
    path = config_from_environment()
    return Guard() if path is None else Guard.from_config(path)


async def guarded(guard: Guard, dialect: Dialect, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of litellm's under the guard's policies. `on_block="raise"` makes a block an exception."""
    needs_asyncio()
    on_block = kwargs.pop("on_block", guard.on_block)
    if on_block not in ("refuse", "error", "raise"):
        raise ValueError(f"on_block is {on_block!r}: use refuse or raise")
    arguments = Arguments(getattr(litellm(), dialect.function), args, kwargs)
    exchange = ClientExchange(guard, dialect, arguments, raises=on_block != "refuse")
    try:
        answer = await exchange.decide()
    except BaseException as error:
        await exchange.failed(error)
        raise
    kind = chat_stream_type() if dialect is CHAT else GuardedIterator
    if answer is not None:
        if exchange.raises:
            await exchange.close_or_raise(answer)
        if exchange.streamed:
            return kind.answering(exchange, answer)
        return await exchange.answer(list(answer.items), answer, None)
    if not exchange.streamed:
        return await exchange.whole()
    inner = await exchange.ask()
    return kind(exchange, inner, await exchange.open())


async def _acompletion(*args: Any, **kwargs: Any) -> Any:
    """`litellm.acompletion` under policy: same arguments, same results, same exceptions."""
    return await guarded(default_guard(), CHAT, args, kwargs)


async def _aresponses(*args: Any, **kwargs: Any) -> Any:
    """`litellm.aresponses` under policy."""
    return await guarded(default_guard(), RESPONSES, args, kwargs)


async def _anthropic_messages(*args: Any, **kwargs: Any) -> Any:
    """`litellm.anthropic_messages` under policy."""
    return await guarded(default_guard(), MESSAGES, args, kwargs)


def _completion(*args: Any, **kwargs: Any) -> Any:
    """`litellm.completion` under policy, for code that is not async."""
    return run_sync(lambda: guarded(default_guard(), CHAT, args, kwargs))


acompletion = _Like("acompletion", _acompletion)
aresponses = _Like("aresponses", _aresponses)
anthropic_messages = _Like("anthropic_messages", _anthropic_messages)
completion = _Like("completion", _completion)
