"""A PostgreSQL that is away, flaps, is slow or falls silent while exchanges run: clients see nothing of it, and when it is
back it has every row, once, as it was. `python -m tests.faults.away` has the figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from tests.faults.away import TROUBLES, Exchanges, played

pytestmark = pytest.mark.anyio

COUNT = 40


def counted(exchange: Callable[[], Awaitable[None]]) -> Exchanges:
    async def exchanges(part: float) -> None:
        for _ in range(round(part * COUNT)):
            await exchange()

    return exchanges


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_clients_see_nothing_and_the_store_has_all(trouble: str, database: str, tmp_path: Path) -> None:
    with anyio.fail_after(120):
        run = await played(trouble, database, counted, commit=0.5, data=tmp_path)
    assert len(run.times) == COUNT
    assert (run.missing, run.other) == (0, 0)
    assert (run.ledger["dropped"], run.ledger["conflicts"], run.ledger["spooled"]) == (0, 0, 0)
