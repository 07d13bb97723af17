"""No test leaves this machine: connecting or resolving anything but loopback is refused, and fails the test."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from typing import Any

import pytest

_refused: list[str] = []
_on: list[bool] = []  # audit hooks cannot be removed: this one is switched


class NetworkRefused(ConnectionRefusedError):
    """A test tried to talk to somebody else."""


def is_loopback(host: object) -> bool:
    """Paths of Unix sockets, no host at all (a wildcard to bind), and 127.0.0.0/8, ::1, localhost."""
    if host is None or host in ("", b"", "localhost", b"localhost"):
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.split("%")[0]).is_loopback
    except ValueError:
        return False


def _audit(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook sees every way to a socket that goes through Python, whoever opens it."""
    if not _on:
        return
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    # servers that listen resolve wildcard addresses: that reaches nobody
    if not is_loopback(host) and str(host) not in ("0.0.0.0", "::"):
        _refused.append(str(host))
        raise NetworkRefused(f"tests may not talk to {host!r}")


@pytest.fixture(scope="session", autouse=True)
def _network_guard() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    sys.addaudithook(_audit)
    _on.append(True)
    yield
    _on.clear()


@pytest.fixture(autouse=True)
def no_network(_network_guard: None) -> Iterator[list[str]]:
    """The hosts that were refused during this test; whoever expects some takes them out of the list."""
    _refused.clear()
    yield _refused
    assert not _refused, f"the test tried to reach {_refused}"
