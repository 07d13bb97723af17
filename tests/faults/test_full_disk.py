"""When the disk is full, decisions that cannot be recorded do not happen; when there is room again, they do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

#: A mount that only this command sees; the first argument is where, the others are the command.
OWN_DISK = (
    "unshare", "--user", "--map-root-user", "--mount",
    "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"',
)  # fmt: skip


def can_mount(folder: Path) -> bool:
    try:
        return (
            subprocess.run([*OWN_DISK, str(folder), "true"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False


def command_for(folder: Path, kind: str, whose: str) -> Sequence[str]:
    """Where nobody may mount, a limit on files stands for the disk."""
    program = [sys.executable, "-m", "tests.faults.full_disk", str(folder)]
    if kind == "tmpfs" and can_mount(folder):
        return [*OWN_DISK, str(folder), *program, "tmpfs", whose]
    return [*program, "limit", whose]


@pytest.mark.parametrize("whose", ["store", "spool"])
@pytest.mark.parametrize("kind", ["tmpfs", "limit"])
def test_a_full_disk_blocks_and_is_survived(kind: str, whose: str, tmp_path: Path) -> None:
    command = command_for(tmp_path, kind, whose)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["full"][-1] == 503
    assert set(found["full"][:-1]) == {200}
    assert len(found["full"]) > 3  # some find room
    assert whose in found["health"]["journal"] or "g.db" in found["health"]["journal"]
    assert found["again"][-1] == 200
    assert found["broken"] == []
    ledger = found["ledger"]
    assert ledger["accepted"] == ledger["stored"] == found["events"], "nothing was lost"


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_disk_that_may_only_be_read_can_be_asked_and_says_why_it_takes_nothing(
    scheme: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.faults.read_only",
        str(tmp_path),
        f"{scheme}:///{tmp_path}/old.store",
    ]
    mounted = can_mount(tmp_path)
    command = [*OWN_DISK, str(tmp_path), *command, "mounted"] if mounted else command
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["asked"] == 1
    for problem in (found["written"], found["started"]):
        assert (
            str(tmp_path) in problem and "read-only" in problem.lower().replace("readonly", "read-only")
        ) == mounted
