"""All benchmarks, or those that are named: `python -m benchmarks [NAME ...] [--json FILE]`."""

from __future__ import annotations

import argparse
import importlib

KNOWN = (
    *("imports", "engine", "asgi", "sockets", "paced", "client", "telemetry", "records", "sinks_remote"),
    "gateway",  # installs LiteLLM's proxy and Portkey's gateway, and takes longest
)

parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KNOWN))
parser.add_argument("--json", metavar="FILE", help="append the figures to this file, a table a line")
chosen = parser.parse_args()
if unknown := [each for each in chosen.names if each not in KNOWN]:
    parser.error(f"no benchmark {', '.join(map(repr, unknown))}; there are {', '.join(KNOWN)}")
for name in chosen.names or KNOWN:
    importlib.import_module(f"benchmarks.{name}").main()
