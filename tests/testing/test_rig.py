"""The rig itself: no network, no silent skips."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.rig.network import NetworkRefused, is_loopback
from tests.rig.strict import Strictness


def test_other_machines_are_out_of_reach(no_network: list[str]) -> None:
    with socket.socket() as other, pytest.raises(NetworkRefused):
        other.connect(("192.0.2.1", 80))
    with pytest.raises(NetworkRefused):
        socket.getaddrinfo("example.com", 80)
    assert no_network == ["192.0.2.1", "example.com"]
    no_network.clear()


def test_loopback_is_in_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    assert all(is_loopback(host) for host in ("127.0.0.2", "::1", "localhost", b"localhost", None))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "localhost.example"))


def report(**fields: Any) -> Any:
    return cast(Any, SimpleNamespace(nodeid="a test", when="call", passed=False, skipped=False, **fields))


def test_a_skip_is_a_complaint_unless_its_reason_is_listed() -> None:
    strict = Strictness(floor=0)
    skipped = report(longrepr=("file", 1, "Skipped: no recordings"))
    skipped.skipped = True
    strict.pytest_runtest_logreport(skipped)
    listed = report(longrepr=("file", 1, "Skipped: only on Windows"))
    listed.skipped = True
    strict.pytest_runtest_logreport(listed)
    assert strict.complaints() == ["skipped: a test: Skipped: no recordings"]


def test_fewer_tests_than_the_floor_are_a_complaint() -> None:
    assert Strictness(floor=0).complaints() == []
    assert "fewer than the 3" in Strictness(floor=3).complaints()[0]
