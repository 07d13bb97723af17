"""Gateways side by side, in one run, in front of the same provider: the provider itself, `luthien-guard serve` with a
policy that does nothing (`native`, and through litellm) and with one that rewrites, LiteLLM's proxy, Portkey's gateway.

The last two are installed from their registries into a temporary folder (`BENCH_PROGRAMS` keeps it); where that is not
possible they are left out.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.rivals import Server, direct, guard, litellm_proxy, portkey
from benchmarks.table import interleaved, report
from tests.clients.programs import Unavailable

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = 1.5
FIRSTS = 150
_BASE = "direct"
_NATIVE, _PROXY = "guard, native, noop", "LiteLLM proxy, noop"


def servers(stack: ExitStack, folder: Path) -> dict[str, Server]:
    programs = Path(os.environ.get("BENCH_PROGRAMS") or folder)
    found = {_BASE: stack.enter_context(direct(folder))}
    provider = f"http://127.0.0.1:{found[_BASE].load.port}"
    native = f"native: openai.chat, base_url: '{provider}/v1'"
    litellm = f"litellm: {{max_retries: 0}}, base_url: '{provider}/v1', api_key: any"
    rewrites = "[{use: uppercase-nth-word, config: {n: 3}}]"
    found[_NATIVE] = stack.enter_context(guard(folder / "native", native))
    found["guard, native, rewrites"] = stack.enter_context(guard(folder / "rewrites", native, rewrites))
    found["guard, litellm, noop"] = stack.enter_context(
        guard(folder / "litellm-upstream", litellm, model="openai/gpt-4o-mini")
    )
    for name, rival in ((_PROXY, litellm_proxy), ("Portkey", portkey)):
        try:
            found[name] = stack.enter_context(rival(programs, provider))
        except Unavailable as error:
            print(f"left out: {name}: {str(error)[:300]}")
    return found


def streams(server: Server) -> bool:
    try:
        return bool(server.load.first(1))
    except (RuntimeError, OSError) as error:
        print(f"does not stream: {str(error)[:100]!r}")
        return False


def measured(
    found: Mapping[str, Server], one: Callable[[Server], float], title: str, unit: str, note: str = ""
) -> dict[str, float]:
    """The medians, after the table."""
    values = interleaved({name: lambda each=each: one(each) for name, each in found.items()}, rounds=ROUNDS)  # type: ignore[misc]
    medians = {name: statistics.median(each) for name, each in values.items()}
    if _PROXY in medians and note:
        note = f"{note}; {_NATIVE} over {_PROXY}: {medians[_NATIVE] / medians[_PROXY]:.1f}"
    report(title, unit, values, baseline=_BASE, note=note)
    return medians


def percentiles(
    found: Mapping[str, Server], sample: Callable[[Server], list[float]], title: str, note: str
) -> None:
    """Two tables of one measurement: its p50 and its p99."""
    taken: dict[str, list[list[float]]] = {name: [] for name in found}
    for number in range(ROUNDS + 1):
        for name, each in found.items():
            values = sorted(sample(each))
            if number:
                taken[name].append(values)
    for share in (0.5, 0.99):
        table = {name: [run[int(len(run) * share)] for run in runs] for name, runs in taken.items()}
        report(f"{title}, p{share * 100:.0f}", "ms", table, baseline=_BASE, note=note)


def spent(server: Server) -> float:
    """Microseconds of the server's CPU for a chunk."""
    began, cpu = time.perf_counter(), server.cpu()
    rate = server.load.chunks(SECONDS)
    return (server.cpu() - cpu) / (rate * (time.perf_counter() - began)) * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="luthien-bench-") as temporary, ExitStack() as stack:
        found = servers(stack, Path(temporary))
        measured(
            found, lambda each: each.load.requests(SECONDS), "requests a second", "1/s", "whole completions"
        )
        # Portkey 1.15.2 answers every stream with 500 ("immutable" headers), on Node 20 and 24 alike
        everyone, found = found, {name: each for name, each in found.items() if streams(each)}
        measured(
            found,
            lambda each: each.load.chunks(SECONDS),
            "chunks a second",
            "1/s",
            "target: 40 x the proxy's",
        )
        measured(found, spent, "CPU of the server for a chunk", "us")
        firsts = "added: min-base; target: <= 1 ms at p50"
        percentiles(found, lambda each: each.load.first(FIRSTS), "time to the first chunk", firsts)
        percentiles(
            found, lambda each: each.load.gaps(), "a chunk on its way, 5 paced streams", "added: min-base"
        )
        held = {name: [each.memory()] for name, each in everyone.items()}
        report("memory after it all", "MB", held, baseline=_BASE)


if __name__ == "__main__":
    main()
