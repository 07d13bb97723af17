"""Ids of exchanges: UUIDv7 (RFC 9562) that sort by time and that nobody guesses or gets twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pytest

from luthien_guard.exchange import new_call_id

MANY = 1000  # several times what is fetched of randomness at once


def test_ids_are_of_version_7_and_say_when() -> None:
    for _ in range(MANY):
        before = time.time_ns() // 1_000_000
        made = UUID(new_call_id())
        assert (made.version, made.variant) == (7, RFC_4122)
        assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_sort_by_time_also_within_a_millisecond() -> None:
    ids: list[str] = []
    for _ in range(1000):
        began = time.time_ns()
        while time.time_ns() < began + 1000:  # a microsecond: four of the steps of an id
            pass
        ids.append(new_call_id())
    assert ids == sorted(ids)
    for each in map(UUID, ids):
        assert (each.version, each.variant) == (7, RFC_4122)
    assert abs(int(ids[-1].replace("-", "")[:12], 16) / 1000 - time.time()) < 60
    assert len({each[19:] for each in ids}) == 1000, "and nobody guesses them"


def test_no_id_is_made_twice_also_in_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [
            each
            for some in pool.map(lambda _: [new_call_id() for _ in range(MANY)], range(8))
            for each in some
        ]
    assert len({each[19:] for each in made}) == len(made), "their random parts alone"


FORKS = """
import os
from luthien_guard.exchange import new_call_id
new_call_id()
child = os.fork()
os.write(1, "".join(f"{new_call_id()[19:]}\\n" for _ in range(10)).encode())  # at once: the other one writes, too
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_child_of_a_fork_has_other_randomness_than_its_parent() -> None:
    said = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=60
    )
    parts = said.stdout.split()
    assert len(parts) == len(set(parts)) == 20
