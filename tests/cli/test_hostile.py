"""The command line under plain bad luck: folders that cannot be read, outputs that cannot be written, signals at the wrong
moment, numbers that no calendar has. One line says so, and never a traceback."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luthien_guard.gateway.keys import KeyFile
from luthien_guard.sinks.sqlite import SqliteStore
from tests.cli.processes import PROGRAM, environment, eventually, run

SECRET = "hunter2"
#: A policy that says when it is being made, and takes its time. In workers only, where the variable says so.
SLOW = """
import multiprocessing, os, pathlib, threading
from luthien_guard import Policy
class Slow(Policy):
    def __init__(self):
        if multiprocessing.parent_process() is not None or not os.environ.get("IN_WORKERS"):
            pathlib.Path(os.environ["MARK"] + "." + str(os.getpid())).touch()
            for _ in range(1000):  # a signal that comes just before a wait is noticed behind it
                threading.Event().wait(0.1)
"""


def config(home: Path, text: str) -> str:
    (home / "guard.yaml").write_text(text, encoding="utf-8")
    return "guard.yaml"


def in_shell(home: Path, arguments: str, redirected: str, **more: str) -> subprocess.CompletedProcess[str]:
    """As a shell starts it that gives it another standard output."""
    line = f'exec "$PYTHON" -m luthien_guard.cli {arguments} {redirected}'
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment(home, PYTHON=sys.executable, **more),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def with_a_store(home: Path) -> None:
    """A store without a record, where the command line looks for one."""
    folder = home / "data" / "luthien-guard"
    folder.mkdir(parents=True)
    store = SqliteStore(folder / "guard.db")
    store.open()
    store.close()


def one_line(ended: subprocess.CompletedProcess[str], code: int) -> str:
    assert ended.returncode == code, ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


# -- what check and doctor find ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("session_from: [foo]", "session_from"),
        ("tracing: foo", "nothing is installed for 'foo'"),
        ("store: mysql://u:hunter2@h/d", "nothing is installed for 'mysql'"),
        ("store: memory://\npubsub: foo://x", "nothing is installed for 'foo'"),
        ("pubsub: foo://x", "nothing is installed for 'foo'"),
        ("upstreams: [{replay: /nonexist}]", "replay: /nonexist is no folder"),
        ("upstreams: [{replay: 'mysql://u:hunter2@h'}]", "nothing is installed for 'mysql'"),
        ('upstreams: [{litellm: {}, headers: {"a b": c}}]', "upstreams.0.headers"),
        ('upstreams: [{litellm: {}, headers: {a: "c\\nd"}}]', "upstreams.0.headers"),
        ('upstreams: [{native: openai.chat, base_url: "http://[::1"}]', "base_url"),
        ('upstreams: [{native: openai.chat, base_url: "http://h:99999999"}]', "base_url"),
    ],
)
def test_check_and_serve_agree(tmp_path: Path, text: str, says: str) -> None:
    file = config(tmp_path, text)
    for arguments in (["check", file], ["serve", "--port", "0", "--config", file]):
        told = one_line(run(tmp_path, *arguments), 2)
        assert told.startswith("error: guard.yaml:")
        assert says in told
        assert SECRET not in told
        assert told.count("guard.yaml") == 1
    assert not (tmp_path / "guard.db").exists()


def test_check_opens_nothing(tmp_path: Path) -> None:
    file = config(
        tmp_path, "store: sqlite:///made/guard.db\ndata: data\nauth: {mode: client_key, keys: made/keys}"
    )
    assert run(tmp_path, "check", file).returncode == 0
    assert [each.name for each in tmp_path.iterdir()] == [file]


def test_the_doctor_finds_what_cannot_be_made(tmp_path: Path) -> None:
    file = config(tmp_path, "tracing: foo\nserver: {port: 0}")
    ended = run(tmp_path, "doctor", "--offline", "--config", file)
    assert ended.returncode == 1
    assert "nothing is installed for 'foo'" in ended.stdout


def test_the_doctor_goes_on_after_a_url_that_nobody_can_ask(tmp_path: Path) -> None:
    file = config(tmp_path, 'upstreams: [{native: openai.chat, base_url: "http://u:hunter2@h:99999999"}]')
    ended = run(tmp_path, "doctor", "--config", file)
    assert ended.returncode == 1
    assert "nothing is broken" not in ended.stdout
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stdout


@pytest.mark.parametrize("command", [["check"], ["doctor", "--config"]])
def test_no_password_of_a_replay_is_printed(tmp_path: Path, command: list[str]) -> None:
    file = config(
        tmp_path, "upstreams: [{replay: 'postgresql://u:hunter2@127.0.0.1:9/d'}]\nserver: {port: 0}"
    )
    ended = run(tmp_path, *command, file)
    assert "postgresql://u:" in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr


# -- signals while a server is made ------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("workers", "more"), [("1", {}), ("2", {}), ("2", {"IN_WORKERS": "1"})])
def test_a_signal_ends_a_gateway_that_is_not_up_yet(
    tmp_path: Path, number: signal.Signals, workers: str, more: dict[str, str]
) -> None:
    (tmp_path / "slow_policy.py").write_text(SLOW)
    file = config(tmp_path, "policies: ['slow_policy:Slow']\nupstreams: [{native: openai.chat}]")
    mark, notice, log = tmp_path / "mark", tmp_path / "notice.json", tmp_path / "log"
    command = [
        *PROGRAM,
        "serve",
        "--port",
        "0",
        "--config",
        file,
        "--workers",
        workers,
        "--announce",
        str(notice),
    ]
    env = environment(tmp_path, PYTHONPATH=str(tmp_path), MARK=str(mark), TMPDIR=str(tmp_path), **more)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=output, stderr=output)
    try:
        eventually(lambda: len(list(tmp_path.glob("mark.*"))) >= (2 if more else 1), 60)
        process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    assert not notice.exists()
    assert not list(tmp_path.glob("luthien-guard-*"))
    eventually(lambda: not any(_runs(int(each.suffix[1:])) for each in tmp_path.glob("mark.*")))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expires", ["9999999d", "99999999999999999d", f"{'9' * 5000}d", f"{'9' * 400}w"])
def test_a_key_does_not_outlive_the_calendar(tmp_path: Path, expires: str) -> None:
    ended = run(tmp_path, "keys", "create", "--expires", expires)
    assert ended.returncode == 2
    assert "is no time" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_key_that_no_calendar_has_a_day_for_hides_no_other(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "data" / "luthien-guard" / "keys.db")
    keys.create("far", seconds=1e15)
    keys.create("near", seconds=60.0)
    listed = run(tmp_path, "keys", "list")
    assert listed.returncode == 0, listed.stderr
    assert ("far" in listed.stdout, "near" in listed.stdout) == (True, True)


# -- folders and files that cannot be used -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["keys", "list"], ["keys", "create"], ["keys", "revoke", "x"]])
@pytest.mark.parametrize("place", ["directory", "file"])
def test_keys_that_cannot_be_kept(tmp_path: Path, arguments: list[str], place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    named = {
        "directory": {"LUTHIEN_AUTH__KEYS": "directory"},
        "file": {"XDG_DATA_HOME": str(tmp_path / "file")},
    }
    told = one_line(run(tmp_path, *arguments, **named[place]), 2)
    assert told.startswith("error: ")
    assert place in told


def test_the_doctor_finds_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    ended = run(tmp_path, "doctor", "--offline", LUTHIEN_AUTH__KEYS="directory", LUTHIEN_SERVER__PORT="0")
    assert ended.returncode == 1, ended
    assert "FAIL  keys" in ended.stdout
    assert "disk" in ended.stdout
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "nope.invalid"])
def test_a_host_that_nobody_can_listen_on(tmp_path: Path, host: str) -> None:
    file = config(tmp_path, "upstreams: [{native: openai.chat}]\nauth: {mode: client_key}")
    told = one_line(run(tmp_path, "serve", "--config", file, "--port", "0", "--host", host), 2)
    assert "cannot listen on" in told


# -- standard output ---------------------------------------------------------------------------------------------------

WORDS = 'policies: [{use: default-limits, name: "漢…", config: {forbidden_words: [é]}}]'
COMMANDS = ["policies list", "policies show noop", "policies plan --config guard.yaml", "check guard.yaml"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("command", [*COMMANDS, "config show --config guard.yaml", "demo --limit 4 --pace 0"])
def test_an_output_that_knows_few_letters(tmp_path: Path, command: str, encoding: str) -> None:
    config(tmp_path, WORDS)
    ended = subprocess.run(
        [*PROGRAM, *command.split()],
        env=environment(tmp_path, PYTHONIOENCODING=encoding),
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    assert b"Traceback" not in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "command", [*COMMANDS, "calls", "completion bash", "--help", "demo --limit 2 --pace 0"]
)
def test_an_output_that_is_full(tmp_path: Path, command: str) -> None:
    config(tmp_path, WORDS)
    with_a_store(tmp_path)
    told = one_line(in_shell(tmp_path, command, "> /dev/full"), 1)
    assert "No space left on device" in told


@pytest.mark.parametrize("command", [*COMMANDS, "calls", "tail", "--help", "demo --limit 2 --pace 0"])
def test_an_output_that_is_closed(tmp_path: Path, command: str) -> None:
    config(tmp_path, WORDS)
    with_a_store(tmp_path)
    ended = in_shell(tmp_path, command, ">&-")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nobody_to_tell_at_all(tmp_path: Path) -> None:
    ended = in_shell(tmp_path, "check none.yaml", ">&- 2>&-")
    assert ended.returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pace", "-1"],
        ["--pace", "nan"],
        ["--pace", "inf"],
        ["--port", "99999"],
        ["--port", "-1"],
        ["--limit", "-1"],
    ],
)
def test_the_demo_takes_no_nonsense(tmp_path: Path, arguments: list[str]) -> None:
    ended = run(tmp_path, "demo", *arguments)
    assert ended.returncode == 2
    assert "Invalid value" in ended.stderr


@pytest.mark.parametrize(("more", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_a_wish(tmp_path: Path, more: dict[str, str], colored: bool) -> None:
    code = "from luthien_guard.cli.output import paint; paint('+ new', 'green')"
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment(tmp_path, **more),
            stdout=theirs,
            timeout=60,
            check=True,
        )
        assert (b"\x1b[" in os.read(ours, 1000)) is colored
    finally:
        os.close(ours)
        os.close(theirs)
