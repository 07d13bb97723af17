"""All benchmarks, or those that are named: `python -m benchmarks [engine] [asgi] [sockets] [imports] [client] [telemetry]`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

here = Path(__file__).parent
known = [
    name
    for name in (
        "imports",
        "engine",
        "asgi",
        "sockets",
        "client",
        "telemetry",
        "records",
        "sinks_remote",
        "gateway",
    )
    if (here / f"{name}.py").exists()
]
for name in [name for name in sys.argv[1:] if name in known] or known:
    importlib.import_module(f"benchmarks.{name}").main()
