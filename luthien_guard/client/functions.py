"""The functions that stand in for litellm's: on a guard, or on the one that the environment describes."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Final

from luthien_guard.client.arguments import Arguments
from luthien_guard.client.dialects import CHAT, MESSAGES, RESPONSES, Dialect
from luthien_guard.client.exchange import ClientExchange, ClientGuard
from luthien_guard.client.litellm_api import needs_asyncio
from luthien_guard.client.signature import bound, signed_like
from luthien_guard.client.stream_type import stream_type
from luthien_guard.client.sync import run_sync
from luthien_guard.client.threads import SYNC_CHAT
from luthien_guard.client.whole import refused, whole
from luthien_guard.config import config_from_environment, guard_arguments, load_config
from luthien_guard.errors import ConfigError
from luthien_guard.forks import Lock
from luthien_guard.guard import Guard

__all__ = [
    "CHAT",
    "MESSAGES",
    "RESPONSES",
    "acompletion",
    "anthropic_messages",
    "aresponses",
    "completion",
    "default_guard",
    "guarded",
    "guarded_completion",
    "run_sync",
]

logger = logging.getLogger("luthien_guard")

_ON_BLOCK: Final = ("refuse", "error", "raise")


@cache
def _made_guard() -> Guard:
    path = config_from_environment()
    if path is not None:
        return Guard.from_config(path)
    guard = Guard(**guard_arguments(load_config().config))
    if not guard.policies:
        logger.warning("calls are under no policy: set POLICY_CONFIG to a file, or LUTHIEN_POLICIES")
    return guard


_making = Lock()


def default_guard() -> Guard:
    """The guard of the module-level functions: what the file that POLICY_CONFIG names and LUTHIEN_* say. No policies where
    neither is set, and a warning in the log."""
    with _making:  # `cache` alone may make two, which would not share a store
        return _made_guard()


async def guarded(guard: ClientGuard, dialect: Dialect, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of litellm's under the guard's policies. `on_block="raise"` makes a block an exception, "refuse" a
    complete answer; the default is the guard's own (its "error" is an exception here)."""
    return await _call(guard, dialect, dialect.function, args, kwargs)


async def _call(
    guard: ClientGuard, dialect: Dialect, named_like: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    needs_asyncio()
    on_block = kwargs.pop("on_block", None) or guard.on_block
    if on_block not in _ON_BLOCK:
        raise ConfigError(f"on_block is {on_block!r}: use one of {', '.join(_ON_BLOCK)}")
    arguments = Arguments(bound(named_like, args, kwargs), sent=dialect.sent)
    exchange = ClientExchange(guard, dialect, arguments, raises=on_block != "refuse")
    try:
        return await _exchanged(exchange)
    except BaseException as error:
        await exchange.failed(error)
        raise


async def _exchanged(exchange: ClientExchange) -> Any:
    answer = await exchange.decide()
    if answer is not None and (exchange.raises or answer.status != 200 or not exchange.streamed):
        return await refused(exchange, answer)
    stream = stream_type(exchange.dialect)
    if answer is not None:
        return stream.answering(exchange, answer)
    inner = await exchange.ask()
    if not hasattr(inner, "__anext__"):  # asked for or not: `mock_response` of `aresponses` ignores `stream`
        return await whole(exchange, inner)
    if exchange.covered:
        try:
            await exchange.open(stream=True)
        except BaseException:
            await exchange.hang_up(inner)
            raise
    return stream(exchange, inner)


async def guarded_completion(guard: ClientGuard, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`guarded` for arguments in the order of `litellm.completion`, which is not that of `acompletion`."""
    return await _call(guard, SYNC_CHAT, "completion", args, kwargs)


@signed_like("acompletion")
async def acompletion(*args: Any, **kwargs: Any) -> Any:
    """`litellm.acompletion` under policy: same arguments, same results, same exceptions."""
    return await guarded(default_guard(), CHAT, args, kwargs)


@signed_like("aresponses")
async def aresponses(*args: Any, **kwargs: Any) -> Any:
    """`litellm.aresponses` under policy."""
    return await guarded(default_guard(), RESPONSES, args, kwargs)


@signed_like("anthropic_messages")
async def anthropic_messages(*args: Any, **kwargs: Any) -> Any:
    """`litellm.anthropic_messages` under policy."""
    return await guarded(default_guard(), MESSAGES, args, kwargs)


@signed_like("completion")
def completion(*args: Any, **kwargs: Any) -> Any:
    """`litellm.completion` under policy, for code that is not async. Works beside a running event loop too; there it
    blocks that loop, as litellm's own does. Not in a policy's hook, which can await `acompletion`: RuntimeError."""
    return run_sync(lambda: guarded_completion(default_guard(), args, kwargs))
