"""When the disk is full, decisions that cannot be recorded do not happen; when there is room again, they do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_full_disk_blocks_and_is_survived(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.full_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["full"][-1] == 503
    assert set(found["full"][:-1]) == {200}
    assert len(found["full"]) > 5
    assert "g.db" in found["health"]["journal"]
    assert found["again"][-1] == 200
    assert found["broken"] == []
    ledger = found["ledger"]
    assert ledger["accepted"] == ledger["stored"] == found["events"], "nothing was lost"
