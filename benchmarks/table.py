"""Interleaved runs, minima and medians, ratios against a named baseline; a table for people, JSON for machines."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

_OPTIONS = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_OPTIONS.add_argument("--json")


def interleaved(variants: Mapping[str, Callable[[], float]], *, rounds: int = 7) -> dict[str, list[float]]:
    """Each variant once a round, in turn: a machine whose speed drifts hits all of them alike. The numbers are
    whatever the variants return (microseconds of CPU, mostly). The first round warms up and is not counted."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            value = run()
            if number:
                found[name].append(value)
    return found


def report(title: str, unit: str, found: Mapping[str, list[float]], *, baseline: str, note: str = "") -> None:
    """Print the table; append the figures to the file that `--json FILE` names."""
    base_min, base_median = min(found[baseline]), statistics.median(found[baseline])
    print(f"\n{title}  ({unit}; {len(found[baseline])} interleaved runs)")
    print(f"  {'variant':34} {'min':>9} {'median':>9} {'min/base':>9} {'med/base':>9} {'min-base':>9}")
    rows = []
    for name, values in found.items():
        low, mid = min(values), statistics.median(values)
        print(
            f"  {name:34} {low:9.2f} {mid:9.2f} {low / base_min:9.2f} {mid / base_median:9.2f} {low - base_min:9.2f}"
        )
        rows.append({"variant": name, "min": low, "median": mid, "runs": values})
    if note:
        print(f"  {note}")
    if path := _OPTIONS.parse_known_args()[0].json:
        with Path(path).open("a") as file:
            line = {"title": title, "unit": unit, "baseline": baseline, "rows": rows}
            file.write(json.dumps(line) + "\n")
