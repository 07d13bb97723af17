"""In CI a skipped test is a failed one, and tests do not get fewer in silence.

With `LUTHIEN_STRICT=1` the run fails when a test was skipped for a reason that is not listed here, and when fewer
tests passed than `tests/FLOOR` (or the file that `LUTHIEN_FLOOR` names) says. Raise the floor when tests are added.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).resolve().parents[2]
FLOOR: Final = _ROOT / os.environ.get("LUTHIEN_FLOOR", "tests/FLOOR")

#: Reasons for which a test may be skipped in CI too: (pattern of the reason, why that is right).
ALLOWED: Final[tuple[tuple[str, str], ...]] = (
    (r"only on Windows", "CI runs on Linux"),
    (
        r"the kernel takes no seccomp filter",
        "a sandbox may forbid it; what it shows was watched where it does not",
    ),
    (r"needs Python 3\.1[2-9]", "CI runs the oldest Python that is supported"),
)


class Strictness:
    """Counts what happened and says at the end whether it was enough."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.passed = 0
        self.skipped: list[tuple[str, str]] = []  # (test, reason)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when == "call":
            self.passed += 1
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skip(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a whole module: pytest.importorskip
            self._skip(report.nodeid, report.longrepr)

    def _skip(self, test: str, longrepr: object) -> None:
        reason = str(longrepr[2]) if isinstance(longrepr, tuple) and len(longrepr) == 3 else str(longrepr)
        if not any(re.search(pattern, reason) for pattern, _ in ALLOWED):
            self.skipped.append((test, reason))

    def complaints(self) -> list[str]:
        found = [f"skipped: {test}: {reason}" for test, reason in self.skipped]
        if self.passed < self.floor:
            found.append(f"{self.passed} tests passed, fewer than the {self.floor} of the floor")
        return found

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.complaints() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for complaint in self.complaints():
            terminalreporter.write_line(f"STRICT {complaint}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    # with workers, it is the one who collects their reports that counts
    if os.environ.get("LUTHIEN_STRICT") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Strictness(int(FLOOR.read_text())), "luthien-strictness")
