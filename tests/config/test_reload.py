"""New policies without a restart: whole or not at all, and never under a running exchange."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.config.load import guard_arguments, load_config
from luthien_guard.config.reload import Reloader
from luthien_guard.guard import Guard
from tests.asgi_drive import ask

FORBIDS = "policies: [noop, {use: default-limits, config: {forbidden_words: [hunter2]}}]"
ALLOWS = "policies: [noop]"
REQUEST = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hunter2"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def made(folder: Path, text: str) -> tuple[Guard, Reloader, Path]:
    file = folder / "guard.yaml"
    file.write_text(text)
    guard = Guard.from_config(file)
    return guard, Reloader(guard, file, interval=0.01), file


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110 -- a file's watcher has no event to tell
            await anyio.sleep(0.005)


class Upstream:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.let = anyio.Event()

    async def __call__(self, scope: object, receive: Callable, send: Callable) -> None:
        await receive()
        self.asked.set()
        await self.let.wait()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(ANSWER).encode(), "more_body": False})


async def test_a_new_set_is_swapped_whole(tmp_path: Path) -> None:
    guard, reloader, file = made(tmp_path, ALLOWS)
    file.write_text(FORBIDS)
    assert await reloader.reload()
    assert guard.policies == ("noop", "default-limits")
    assert guard.config_status is not None
    assert (guard.config_status.version, guard.config_status.error) == (2, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policies: [nop]", "did you mean 'noop'?"),
        ("policies: [", "guard.yaml:1"),
        ("polices: []", "guard.yaml:1: polices: unknown key"),
        ("policies: [{use: default-limits, config: {max_tokens: 0}}]", "max_tokens is 0"),
        ('store: "${NOT_SET_ANYWHERE}"', "NOT_SET_ANYWHERE is not set"),
        ('policies: [{use: "no_such_module:Policy"}]', "no_such_module"),
    ],
)
async def test_a_bad_file_changes_nothing_and_is_told(tmp_path: Path, text: str, says: str) -> None:
    guard, reloader, file = made(tmp_path, FORBIDS)
    file.write_text(text)
    assert not await reloader.reload()
    assert guard.policies == ("noop", "default-limits")
    assert guard.config_status is not None
    assert guard.config_status.version == 1
    assert says in (guard.config_status.error or "")
    assert str(file) in (guard.config_status.error or "")
    file.write_text(ALLOWS)
    assert await reloader.reload()
    assert guard.config_status.error is None


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    guard, reloader, file = made(tmp_path, FORBIDS)
    file.unlink()
    assert not await reloader.reload()
    assert guard.policies == ("noop", "default-limits")


async def test_what_waits_for_a_restart_is_named(tmp_path: Path) -> None:
    guard, reloader, file = made(tmp_path, ALLOWS)
    file.write_text(f"{ALLOWS}\nserver: {{port: 9}}\non_block: error\nmode: observe")
    assert await reloader.reload()
    assert reloader.status.pending == ("on_block", "server")
    assert guard.on_block == "refuse"


async def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    guard, reloader, file = made(tmp_path, ALLOWS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reloader.run)
        file.write_text(FORBIDS)
        await until(lambda: guard.policies == ("noop", "default-limits"))
        file.write_text("policies: [")
        await until(lambda: reloader.status.error is not None)
        assert guard.policies == ("noop", "default-limits")
        file.write_text(ALLOWS)
        await until(lambda: guard.policies == ("noop",))
        assert reloader.status.error is None
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("made", ["of the file", "of what was loaded", "by hand"])
async def test_a_file_that_changed_before_anybody_watched_is_loaded(tmp_path: Path, made: str) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(ALLOWS)
    loaded = load_config(file)
    guard = Guard.from_config(file) if made == "of the file" else Guard(**guard_arguments(loaded.config))
    file.write_text(FORBIDS)
    reloader = Reloader(guard, file, interval=0.01, made_of=loaded if made == "of what was loaded" else None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reloader.run)
        await until(lambda: guard.policies == ("noop", "default-limits"))
        tasks.cancel_scope.cancel()


async def test_a_setting_that_changed_before_anybody_watched_waits_for_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(ALLOWS)
    guard = Guard.from_config(file)
    file.write_text(f"{ALLOWS}\nunknown: block")
    reloader = Reloader(guard, file)
    assert await reloader.reload()
    assert reloader.status.pending == ("unknown",)


async def test_what_stands_over_the_file_stays_over_it(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(ALLOWS)
    limits = {"use": "default-limits", "config": {"forbidden_words": ["hunter2"]}}
    guard = Guard.from_config(
        file, policies=iter([limits]), mode="observe", policy_sets={"ci": iter(["noop"])}
    )
    observed = guard.policy_version
    file.write_text(f"{ALLOWS} # once more")
    reloader = Reloader(guard, file)
    for _ in range(2):
        assert await reloader.reload()
        assert (guard.policies, guard.policy_sets) == (("default-limits",), {"ci"})
        assert guard.policy_version == observed


async def test_a_link_that_points_elsewhere_is_a_changed_file(tmp_path: Path) -> None:
    """So a mounted ConfigMap changes."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "guard.yaml").write_text(ALLOWS)
    (tmp_path / "two" / "guard.yaml").write_text(FORBIDS)
    (tmp_path / "data").symlink_to("one")
    file = tmp_path / "guard.yaml"
    file.symlink_to("data/guard.yaml")
    guard = Guard.from_config(file)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Reloader(guard, file, interval=0.01).run)
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "data")
        await until(lambda: guard.policies == ("noop", "default-limits"))
        tasks.cancel_scope.cancel()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
async def test_sighup_reloads(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(ALLOWS)
    guard = Guard.from_config(file)
    # Until the receiver is there, it must not end the test.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Reloader(guard, file, interval=0).run)
            file.write_text(FORBIDS)
            with anyio.fail_after(20):
                while guard.policies != ("noop", "default-limits"):
                    os.kill(os.getpid(), signal.SIGHUP)
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_an_exchange_ends_under_the_policies_with_which_it_began(tmp_path: Path) -> None:
    guard, reloader, file = made(tmp_path, FORBIDS)
    upstream = Upstream()
    app = GuardMiddleware(upstream, guard=guard)
    answers: dict[str, bytes] = {}

    async def exchange(name: str) -> None:
        answers[name] = (await ask(app, "/v1/chat/completions", REQUEST)).body

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange, "before")
        with anyio.fail_after(20):
            await upstream.asked.wait()
        file.write_text(ALLOWS)
        assert await reloader.reload()
        upstream.let.set()
    await exchange("after")
    assert b"hunter2" not in answers["before"]
    assert b"hunter2" in answers["after"]
