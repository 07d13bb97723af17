"""litellm runs on asyncio only, so these tests do; that trio is told so has a test of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.provider import Provider, serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as found:
        yield found
