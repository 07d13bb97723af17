"""Programs and gateways, once for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from luthien_guard.testing.provider import FakeProvider
from tests.clients.gateway import Gateways, gateways
from tests.clients.programs import Programs
from tests.clients.scenario import POLICIES, answer


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    # more than a gigabyte: not among the folders that pytest keeps
    with TemporaryDirectory(prefix="luthien-clients-") as temporary, ThreadPoolExecutor(2) as workers:
        folder = Path(os.environ.get("LUTHIEN_CLIENTS") or temporary)
        yield Programs.in_folder(folder.absolute(), workers)
        workers.shutdown(wait=False, cancel_futures=True)


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory, programs: Programs) -> Iterator[Gateways]:
    with gateways(tmp_path_factory.mktemp("gateways"), FakeProvider(answer)) as found:
        yield found


@pytest.fixture(params=list(POLICIES))
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider(behind: Gateways) -> Iterator[FakeProvider]:
    """Complains of nothing."""
    behind.provider.complaints.clear()
    behind.provider.requests.clear()
    yield behind.provider
    assert behind.provider.complaints == []
