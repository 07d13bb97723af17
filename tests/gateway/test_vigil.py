"""Who waits beside the work: for the client's end, and for the end of patience."""

from __future__ import annotations

import anyio
import pytest

from luthien_guard.gateway.vigil import kept

pytestmark = pytest.mark.anyio


async def forever() -> dict[str, str]:
    await anyio.sleep_forever()
    raise AssertionError


async def work_that_is_cancelled(seen: list[str]) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        seen.append("ended")


async def test_work_that_ends_is_not_disturbed() -> None:
    seen: list[str] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        seen.append("done")

    assert await kept(work, forever, lambda: 60.0, 60.0)
    assert seen == ["done"]


async def test_the_client_s_end_ends_the_work() -> None:
    seen: list[str] = []
    messages = iter(("http.request", "http.disconnect"))

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    assert await kept(lambda: work_that_is_cancelled(seen), receive, lambda: 60.0, 60.0)
    assert seen == ["ended"]


async def test_the_end_of_patience_ends_the_work() -> None:
    seen: list[str] = []
    left = iter((0.02, 0.01, 0.01))
    assert not await kept(lambda: work_that_is_cancelled(seen), forever, lambda: next(left, 0.0), 60.0)
    assert seen == ["ended"]


async def test_patience_that_shrinks_is_seen_in_time() -> None:
    seen: list[str] = []
    left = iter((3600.0, 3600.0))
    with anyio.fail_after(30):
        assert not await kept(lambda: work_that_is_cancelled(seen), forever, lambda: next(left, 0.0), 0.01)
    assert seen == ["ended"]


async def test_what_the_work_raises_comes_out() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises((ValueError, ExceptionGroup)):
        await kept(work, forever, lambda: 60.0, 60.0)


async def test_it_ends_with_the_scope_around_it() -> None:
    seen: list[str] = []
    with anyio.move_on_after(0.1) as scope:
        await kept(lambda: work_that_is_cancelled(seen), forever, lambda: 60.0, 60.0)
    assert scope.cancelled_caught and seen == ["ended"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_that_cannot_say_who_is_there_has_nobody() -> None:
    seen: list[str] = []

    async def receive() -> dict[str, str]:
        raise RuntimeError("closed")

    assert await kept(lambda: work_that_is_cancelled(seen), receive, lambda: 60.0, 60.0)
    assert seen == ["ended"]
