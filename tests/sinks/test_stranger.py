"""A store of a stranger's, installed as its author would: found by the scheme of its URL, by the guard and on the command
line, and checked by the suite that every store of ours passes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

MODULE = '''
from pathlib import Path
from luthien_guard.sinks.sqlite import SqliteStore

class DrawerStore(SqliteStore):
    """Its own class and its own kind of URL: what it keeps rows in is nobody's business."""

def from_url(url: str) -> DrawerStore:
    return DrawerStore(Path(url.removeprefix("drawer://")) / "drawer")

'''
METADATA = "Metadata-Version: 2.1\nName: luthien-guard-drawer\nVersion: 1.0\n"
ENTRY_POINTS = """
[luthien_guard.sinks]
drawer = luthien_guard_drawer:from_url
gone = luthien_guard_drawer:not_there
lacking = luthien_guard_lacking:from_url
"""
PROGRAM = """
import sys
from pathlib import Path
import anyio
from luthien_guard import ConfigError, Guard, GuardMiddleware
from luthien_guard.sinks.urls import open_store
from luthien_guard.testing import check_sink
from tests.asgi_drive import ask, replay

async def main(url: str) -> None:
    guard = Guard(["noop"], store=url)
    app = GuardMiddleware(replay(b"{}", status=200, content_type="application/json"), guard=guard)
    async with guard:
        reply = await ask(app, "/v1/chat/completions", b'{"model":"m","messages":[]}')
        await guard.delivery.durable()
        (call,) = await guard.query.calls()
        assert call.call_id == reply.header("x-luthien-call-id")
        assert type(guard.storage._store).__name__ == "DrawerStore"
        assert await guard.query.verify() == []

folder = Path(sys.argv[1])
check_sink(lambda: open_store(f"drawer://{folder}/check"))
anyio.run(main, f"drawer://{folder}/guard")
for scheme, says in (("gone", "is registered wrongly"), ("lacking", "not installed"), ("drawr", "did you mean 'drawer'")):
    try:
        Guard(store=f"{scheme}://x")
    except ConfigError as error:
        assert says in str(error), error
    else:
        raise AssertionError(scheme)
"""


def installed(folder: Path) -> dict[str, str]:
    """The environment of a process in which the distribution is installed."""
    info = folder / "luthien_guard_drawer-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "luthien_guard_drawer.py").write_text(MODULE)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def test_a_strangers_store_is_a_store(tmp_path: Path) -> None:
    environment = installed(tmp_path / "site")

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-c", PROGRAM, str(tmp_path))
    listed = run("-m", "luthien_guard.cli", "calls", "--json", "--store", f"drawer://{tmp_path}/guard")
    assert '"outcome": "success"' in listed
