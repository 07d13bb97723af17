"""How long `import luthien_guard` takes in a fresh process, and what it brings along."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.table import interleaved, report

CODE = "import time; began = time.perf_counter(); import {}; print((time.perf_counter() - began) * 1e3)"


def fresh(modules: str) -> float:
    output = subprocess.run(
        [sys.executable, "-c", CODE.format(modules)], capture_output=True, text=True, check=True
    )
    return float(output.stdout)


def main() -> None:
    names = ("json", "luthien_guard", "luthien_guard.guard", "luthien_guard.asgi", "luthien_guard.cli")
    runs = {f"import {name}": lambda name=name: fresh(name) for name in names}
    report("import in a fresh process", "ms", interleaved(runs, rounds=5), baseline="import json")


if __name__ == "__main__":
    main()
