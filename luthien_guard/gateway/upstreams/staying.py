"""Redirects, which litellm's clients follow, with the headers in which keys stand: in our calls nobody is led away."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, Final

__all__ = ["staying"]

_stays: Final[ContextVar[bool]] = ContextVar("luthien_guard_stays", default=False)


@contextmanager
def staying() -> Generator[None]:
    """What is sent from here goes where it was told to, and nowhere else: a redirect is the answer."""
    _wrap()
    token = _stays.set(True)
    try:
        yield
    finally:
        _stays.reset(token)


@cache
def _wrap() -> None:
    """litellm makes its clients itself, other ones for each kind of provider, and takes none that suits all. They send
    through httpx; what others send through it in this process is left alone."""
    import httpx

    for client in (httpx.Client, httpx.AsyncClient):
        client.send = _staying(client.send)  # type: ignore[method-assign]


def _staying(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    def sent(*args: Any, **options: Any) -> Any:
        if _stays.get():
            options["follow_redirects"] = False
        return send(*args, **options)

    return sent
