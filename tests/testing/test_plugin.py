"""The pytest plugin gives fixtures and costs nothing until one is asked for."""

from __future__ import annotations

import subprocess
import sys

from luthien_guard.testing import FakeJudge, Script, VirtualClock


def test_its_fixtures(luthien_script: Script, luthien_judge: FakeJudge, luthien_clock: VirtualClock) -> None:
    assert luthien_script == Script()
    assert luthien_judge.asked == []
    assert luthien_clock() == luthien_clock.now


def test_importing_it_imports_nothing_of_the_library() -> None:
    code = (
        "import sys, luthien_guard.pytest_plugin, luthien_guard.testing\n"
        "print(sorted(name for name in sys.modules if name.startswith(('luthien_guard.', 'hypothesis', 'litellm'))))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "['luthien_guard.pytest_plugin', 'luthien_guard.testing']"
