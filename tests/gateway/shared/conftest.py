"""Every service that workers can share, as a URL of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from luthien_guard.gateway.shared.service import KeyTable, Shared
from luthien_guard.gateway.shared.urls import open_shared
from tests.sinks.servers import database, postgres, primary, redis

__all__ = ["database", "postgres", "primary", "redis"]

Open = Callable[[], Shared]


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'shared.db'}"
    return str(request.getfixturevalue("database" if request.param == "postgresql" else "redis"))


@pytest.fixture
def name() -> str:
    """What a test uses in a service that others use too."""
    return uuid4().hex


@pytest.fixture
def worker(url: str) -> Iterator[Open]:
    """Each call is one more worker, on the same service."""
    made: list[Shared] = []

    def one_more() -> Shared:
        shared = open_shared(url)
        assert shared is not None
        made.append(shared)
        return shared

    yield one_more
    for each in made:
        each.close()


@pytest.fixture(params=["postgresql", "redis"])
def tables(request: pytest.FixtureRequest) -> Iterator[Callable[[], KeyTable]]:
    """Each call is one more machine, with the same keys."""
    found = request.getfixturevalue("database" if request.param == "postgresql" else "redis")
    made: list[KeyTable] = []

    def one_more() -> KeyTable:
        table = open_shared(found)
        assert isinstance(table, KeyTable)
        made.append(table)
        return table

    yield one_more
    for each in made:
        each.close()


@contextmanager
def told(**variables: str) -> Generator[None]:
    """Variables that this process was started with."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def redis_url(url: str) -> str:
    """Of a proxy: without a password, which this server has not."""
    return urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()
