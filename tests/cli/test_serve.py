"""`luthien-guard serve` as a process: it serves, reloads, ends in order, and never stands open to others."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette

from luthien_guard.cli.serving import lasting
from luthien_guard.testing.provider import serving
from tests.cli.processes import SECRET, Upstream, eventually, refuses, run, served

FORBIDS = f"policies: [{{use: default-limits, config: {{forbidden_words: [{SECRET}]}}}}]"
ALLOWS = "policies: [noop]"
CALLER = {"authorization": "Bearer sk-caller"}


@pytest.fixture
def upstream() -> Iterator[tuple[Upstream, str]]:
    app = Upstream()
    with serving(app) as url:
        yield app, url


def write(folder: Path, policies: str, url: str, further: str = "") -> Path:
    file = folder / "guard.yaml"
    there = f'upstreams: [{{native: openai.chat, base_url: "{url}/v1", api_key: "${{PROVIDER_KEY}}"}}]'
    scratch = folder / "guard.yaml.new"
    scratch.write_text(f"{policies}\n{there}\n{further}\n")
    scratch.replace(file)
    return file


def test_it_serves_reloads_and_ends_in_order(tmp_path: Path, upstream: tuple[Upstream, str]) -> None:
    app, url = upstream
    reload = "server: {reload: 0.05}"
    file = write(tmp_path, FORBIDS, url, reload)
    with served(tmp_path, file, PROVIDER_KEY="sk-host") as gateway:
        gateway.headers = dict(CALLER)
        status, body = gateway.chat()
        assert status == 200
        assert SECRET not in body
        assert app.headers[-1]["authorization"] == "Bearer sk-host"

        write(tmp_path, ALLOWS, url, reload)
        eventually(lambda: SECRET in gateway.chat()[1])
        assert "configuration reloaded: default-limits -> noop" in gateway.logged()

        file.write_text("policies: [")
        eventually(lambda: json.loads(gateway.get("/health")[1])["status"] == "degraded")
        assert SECRET in gateway.chat()[1]
        assert "guard.yaml:1" in gateway.logged()

        write(tmp_path, FORBIDS, url, reload)
        gateway.process.send_signal(signal.SIGHUP)
        eventually(lambda: SECRET not in gateway.chat()[1])
        assert json.loads(gateway.get("/health")[1])["status"] == "ok"

        # the end: what runs is served to its end first
        app.asked.clear()
        last: list[tuple[int, str]] = []
        asking = threading.Thread(target=lambda: last.append(gateway.chat(model="slow")))
        asking.start()
        assert app.asked.wait(30)
        gateway.process.terminate()
        eventually(lambda: refuses(gateway.url))
        app.gate.set()
        asking.join(30)
        assert last[0][0] == 200
        assert SECRET not in last[0][1]
        assert gateway.process.wait(30) == 0
    assert not (tmp_path / "notice.json").exists()


def test_workers_share_port_and_keys(tmp_path: Path, upstream: tuple[Upstream, str]) -> None:
    app, url = upstream
    further = "auth: {mode: client_key}\nserver: {reload: 0}"
    file = write(tmp_path, ALLOWS, url, further)
    with served(tmp_path, file, "--workers", "2", PROVIDER_KEY="sk-host") as gateway:
        assert gateway.chat()[0] == 401
        made = run(tmp_path, "keys", "--config", str(file), "create", "--name", "me", PROVIDER_KEY="x")
        key = made.stdout.strip()
        assert key.startswith("lg_"), made.stderr
        assert all(gateway.chat(headers={"x-api-key": key})[0] == 200 for _ in range(8))
        assert key not in json.dumps(app.headers)
        assert all(each["authorization"] == "Bearer sk-host" for each in app.headers)

        write(tmp_path, FORBIDS, url, further)
        gateway.process.send_signal(signal.SIGHUP)
        eventually(lambda: gateway.logged().count("configuration reloaded") == 2)
        assert all(SECRET not in gateway.chat(headers={"x-api-key": key})[1] for _ in range(8))

        revoked = run(tmp_path, "keys", "--config", str(file), "revoke", key.split("_")[1], PROVIDER_KEY="x")
        assert revoked.returncode == 0
        assert all(gateway.chat(headers={"x-api-key": key})[0] == 401 for _ in range(8))
        assert key not in gateway.logged()


def test_the_list_of_keys_shows_the_hash_that_records_have(
    tmp_path: Path, upstream: tuple[Upstream, str]
) -> None:
    """Of calls, and of what was refused: the store's own pepper is another one."""
    further = f"auth: {{mode: client_key}}\nstore: sqlite:///{tmp_path}/guard.db"
    file = write(tmp_path, ALLOWS, upstream[1], further)
    own = ("--config", str(file))
    made = run(tmp_path, "keys", *own, "create", "--name", "me", "--scope", "chat", PROVIDER_KEY="x")
    key = {"authorization": f"Bearer {made.stdout.strip()}"}
    with served(tmp_path, file, PROVIDER_KEY="sk-host") as gateway:
        assert gateway.chat(headers=key)[0] == 200
        run(tmp_path, "keys", *own, "revoke", made.stdout.split("_")[1], PROVIDER_KEY="x")
        assert gateway.chat(headers=key)[0] == 401
        assert gateway.chat(headers={"x-api-key": "sk-other"})[0] == 401
    hash = run(tmp_path, "keys", *own, "list", PROVIDER_KEY="x").stdout.split()[-1]
    calls = run(tmp_path, "calls", *own, "--json", PROVIDER_KEY="x").stdout.splitlines()
    assert [json.loads(each)["api_key_hash"] == hash for each in calls] == [False, True, True]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="workers are found in /proc")
def test_a_worker_that_dies_is_replaced_though_the_file_is_wrong(
    tmp_path: Path, upstream: tuple[Upstream, str]
) -> None:
    file = write(tmp_path, FORBIDS, upstream[1], "server: {reload: 0.05}")
    with served(tmp_path, file, "--workers", "2", PROVIDER_KEY="sk-host") as gateway:
        gateway.headers = dict(CALLER)
        before = children(gateway.process.pid)
        assert len(before) == 2
        file.write_text("policies: [")
        eventually(lambda: gateway.logged().count("configuration not reloaded") == 2)
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: f"worker {before[0]} ended (SIGKILL)" in gateway.logged(), 60)
        eventually(lambda: "the configuration that was right before is served" in gateway.logged(), 60)
        eventually(lambda: len(children(gateway.process.pid)) == 2)
        assert set(children(gateway.process.pid)) != set(before)
        os.kill(before[1], signal.SIGTERM)  # so that the new ones answer
        eventually(lambda: before[1] not in children(gateway.process.pid))
        answers = [gateway.chat() for _ in range(4)]
        assert [status for status, _ in answers] == [200] * 4
        assert not any(SECRET in body for _, body in answers)
        assert json.loads(gateway.get("/health")[1])["status"] == "degraded"

        write(tmp_path, ALLOWS, upstream[1], "server: {reload: 0.05}")
        eventually(lambda: all(SECRET in gateway.chat()[1] for _ in range(6)))
    assert not list(tmp_path.glob("luthien-guard-*"))


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("auth: {mode: off}", ["--host", "0.0.0.0"], "anyone could use this gateway"),
        ("upstreams: [{litellm: {}, api_key: k}]", ["--host", "0.0.0.0"], "anyone could spend it"),
        ("polices: []", [], "guard.yaml:1: polices: unknown key (did you mean 'policies'?)"),
        ("policies: [nop]", [], "did you mean 'noop'?"),
        ('store: "${NOT_SET}"', [], "guard.yaml:1: environment variable NOT_SET is not set"),
        ("upstreams: [{match: x}]", [], "exactly one of native, litellm and replay"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_served(
    tmp_path: Path, text: str, arguments: list[str], says: str
) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    ended = run(tmp_path, "serve", "--config", str(file), "--port", "0", *arguments)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "guard.yaml").write_text("upstreams: [{native: openai.chat}]")
        ended = run(tmp_path, "serve", "--config", "guard.yaml", "--port", str(port))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_without_a_file_it_says_what_it_did(tmp_path: Path) -> None:
    """The defaults of the documentation, and where records go."""
    shown = run(tmp_path, "config", "show", "--json")
    values = json.loads(shown.stdout)
    assert values["policies"] == ["noop"]
    assert values["auth"]["mode"] == "passthrough"
    assert values["store"] == f"sqlite:///{tmp_path}/data/luthien-guard/guard.db"
    assert [each["match"] for each in values["upstreams"]][-1] == "*"
    assert not (tmp_path / "data").exists()  # looking makes nothing


def test_a_host_name_that_is_not_ours_is_refused(tmp_path: Path, upstream: tuple[Upstream, str]) -> None:
    file = write(tmp_path, ALLOWS, upstream[1])
    with served(tmp_path, file, PROVIDER_KEY="k") as gateway:
        assert gateway.chat(headers={"host": "evil.example"})[0] == 421
        assert gateway.chat(headers={"origin": "http://evil.example"})[0] == 403
        assert gateway.chat(headers={"x-api-key": "a", "authorization": "Bearer b"})[0] == 401
        assert gateway.chat(headers={"authorization": f"Bearer lg_{'0' * 12}_{'0' * 64}"})[0] == 401
    assert upstream[0].headers == []


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_it_ends_with_who_started_it(tmp_path: Path, upstream: tuple[Upstream, str]) -> None:
    import subprocess

    from tests.cli.processes import PROGRAM, environment

    file = write(tmp_path, ALLOWS, upstream[1])
    notice = tmp_path / "own.json"
    command = [
        *PROGRAM,
        "serve",
        "--config",
        str(file),
        "--port",
        "0",
        "--announce",
        str(notice),
        "--with-parent",
    ]
    process = subprocess.Popen(
        command, env=environment(tmp_path, PROVIDER_KEY="k"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        eventually(notice.exists, 120)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="workers are found in /proc")
def test_workers_do_not_outlive_the_process_that_watches_them(
    tmp_path: Path, upstream: tuple[Upstream, str]
) -> None:
    file = write(tmp_path, ALLOWS, upstream[1])
    with served(tmp_path, file, "--workers", "2", PROVIDER_KEY="sk-host") as gateway:
        gateway.process.kill()
        eventually(lambda: refuses(gateway.url), 60)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_does_not_start_is_no_success(tmp_path: Path, workers: str) -> None:
    (tmp_path / "guard.db").mkdir()
    file = tmp_path / "guard.yaml"
    file.write_text(f"store: sqlite:///{tmp_path}/guard.db")
    ended = run(tmp_path, "serve", "--config", str(file), "--port", "0", "--workers", workers)
    assert ended.returncode == 2
    assert "did not start: see the log above" in ended.stderr
    assert str(tmp_path / "guard.db") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_a_shutdown_cuts_off_is_counted_and_no_traceback(
    tmp_path: Path, upstream: tuple[Upstream, str]
) -> None:
    app, url = upstream
    file = write(tmp_path, ALLOWS, url, "server: {shutdown_timeout: 1}")
    with served(tmp_path, file, PROVIDER_KEY="sk-host") as gateway:
        gateway.headers = dict(CALLER)
        asking = threading.Thread(target=lambda: gateway.chat(model="slow"))
        asking.start()
        assert app.asked.wait(60)
    app.gate.set()
    asking.join()
    assert "Cancel 1 running task(s)" in gateway.logged()
    assert "Traceback" not in gateway.logged()


def test_who_does_not_wait_for_the_end_sees_no_traceback(
    tmp_path: Path, upstream: tuple[Upstream, str]
) -> None:
    """Ctrl-C, and Ctrl-C again."""
    file = write(tmp_path, ALLOWS, upstream[1], f"store: sqlite:///{tmp_path}/guard.db")
    with served(tmp_path, file, PROVIDER_KEY="sk-host") as gateway:
        gateway.headers = dict(CALLER)
        asking = threading.Thread(target=lambda: gateway.chat(model="endless"))
        asking.start()
        assert upstream[0].asked.wait(60)
        gateway.process.send_signal(signal.SIGINT)
        eventually(lambda: refuses(gateway.url))
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(30) == 0
        asking.join()
        assert "Traceback" not in gateway.logged()
    (call,) = run(tmp_path, "calls", "--config", str(file), "--json", PROVIDER_KEY="x").stdout.splitlines()
    assert json.loads(call)["outcome"] == "cancelled"


@pytest.mark.parametrize("policies", [ALLOWS, "policies: []"])
def test_a_stream_that_a_shutdown_cuts_off_says_so(
    tmp_path: Path, upstream: tuple[Upstream, str], policies: str
) -> None:
    further = f"store: sqlite:///{tmp_path}/guard.db\nserver: {{shutdown_timeout: 1}}"
    file = write(tmp_path, policies, upstream[1], further)
    with served(tmp_path, file, PROVIDER_KEY="sk-host") as gateway:
        gateway.headers = dict(CALLER)
        heard: list[str] = []
        asking = threading.Thread(target=lambda: heard.append(gateway.chat(model="endless")[1]))
        asking.start()
        assert upstream[0].asked.wait(60)
    asking.join()
    assert '"content":"so"' in heard[0]
    assert heard[0].endswith('"code":"cancelled"}}\n\ndata: [DONE]\n\n')
    (call,) = run(tmp_path, "calls", "--config", str(file), "--json", PROVIDER_KEY="x").stdout.splitlines()
    assert json.loads(call)["outcome"] == "cancelled"


def test_what_is_no_http_fills_no_log(tmp_path: Path, upstream: tuple[Upstream, str]) -> None:
    _, url = upstream
    with served(tmp_path, write(tmp_path, ALLOWS, url), PROVIDER_KEY="sk-host") as gateway:
        port = int(gateway.url.rpartition(":")[2])
        for _ in range(120):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
                link.sendall(b"no HTTP\r\n\r\n")
                assert link.recv(1000).startswith(b"HTTP/1.1 400")
    assert 60 <= gateway.logged().count("Invalid HTTP request received.") < 100


def children(pid: int) -> list[int]:
    """The workers: not multiprocessing's own resource tracker."""
    found = []
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(int(each))
        except OSError:
            continue
    return found


@pytest.mark.anyio
async def test_what_a_server_holds_all_its_life_is_not_looked_at_again_and_again() -> None:
    app = lasting(Starlette())
    gc.unfreeze()  # what the run of the tests does not look at again, see `tests.rig.garbage`
    try:
        async with app.router.lifespan_context(app):
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()  # the process that runs the tests does something else as well
