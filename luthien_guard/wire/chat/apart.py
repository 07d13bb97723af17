"""A chunk that some clients skip as a whole, in parts.

There are clients that check each chunk and know no call but a function with an index. They read on behind a chunk with
another one: what stood in it beside that call would stand apart for them. So it leaves in a chunk of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.chat.payloads import payload_of
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import DELETE

__all__ = ["WHOLE", "apart"]

#: Each is a chunk: an upstream could make as many as it has entries.
_MAX: Final = 16
#: How long the paths are of a choice's `tool_calls` and of what that stands in.
_OUTER: Final = range(len(("choices",)), len(("choices", 0, "delta", "tool_calls")) + 1)
WHOLE: Final[tuple[Mapping[Path, Any], ...]] = ({},)  # one part, with nothing else changed


class _Run(NamedTuple):
    """Entries of one choice that stand behind each other, and are all known to those clients or all not."""

    choice: int
    known: bool
    places: range


def apart(data: Any, changes: Mapping[Path, Any]) -> tuple[Mapping[Path, Any], ...]:
    """What to change besides in each part of the chunk that leaves; nearly always that is one, and nothing."""
    choices = data.get("choices")
    if not isinstance(choices, list):
        return WHOLE
    runs = [run for at, choice in enumerate(choices) for run in _runs(at, choice, changes)]
    if all(run.known for run in runs) or (len(runs) == 1 and not any(map(_speaks, choices))):
        return WHOLE
    if len(runs) > _MAX:
        raise IllegalOutput("openai.chat: calls of many kinds in turns in one chunk", policy="", hook="")
    ends = {run.choice: run for run in runs}  # the last of each choice
    return (_beside(data, ends), *(_only(data, run, ends) for run in runs))


def _runs(at: int, choice: Any, changes: Mapping[Path, Any]) -> Iterator[_Run]:
    """Without what does not leave as it came: nobody reads an entry there."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    calls = delta.get("tool_calls") if isinstance(delta, dict) else None
    if not isinstance(calls, list):
        return
    path: Path = ("choices", at, "delta", "tool_calls")
    if changes and any(path[:end] in changes for end in _OUTER):
        return
    left = [place for place in range(len(calls)) if changes.get((*path, place)) is not DELETE]
    for known, places in groupby(left, lambda place: _is_known(calls[place], (*path, place), changes)):
        among = list(places)
        yield _Run(at, known, range(among[0], among[-1] + 1))


def _is_known(entry: Any, owner: Path, changes: Mapping[Path, Any]) -> bool:
    kind = changes.get((*owner, "type"), entry.get("type"))
    return (
        payload_of(entry) == "function"
        and changes.get((*owner, "function")) is not DELETE
        and (kind is DELETE or kind in (None, "function"))
        and changes.get((*owner, "index"), entry.get("index")) is not None
    )


def _speaks(choice: Any) -> bool:
    """Of anything but calls."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and any(value for key, value in delta.items() if key not in _SILENT)


_SILENT: Final = ("role", "tool_calls")


def _beside(data: Any, ends: Mapping[int, _Run]) -> dict[Path, Any]:
    """Everything but the calls, and what ends their choices or the answer."""
    found: dict[Path, Any] = {("usage",): DELETE} if "usage" in data else {}
    for at in ends:
        found["choices", at, "delta", "tool_calls"] = DELETE
        if data["choices"][at].get("finish_reason"):
            found["choices", at, "finish_reason"] = None
    return found


def _only(data: Any, run: _Run, ends: Mapping[int, _Run]) -> dict[Path, Any]:
    """These calls; behind the last of them, what ends their choice or the answer."""
    choice = data["choices"][run.choice]
    path: Path = ("choices", run.choice)
    is_end = run is ends[run.choice]
    gone: list[Path] = [("choices", at) for at in range(len(data["choices"])) if at != run.choice]
    gone += [(*path, key) for key in choice if key not in ("index", "delta", "finish_reason")]
    gone += [(*path, "delta", key) for key in choice["delta"] if key != "tool_calls"]
    calls = range(len(choice["delta"]["tool_calls"]))
    gone += [(*path, "delta", "tool_calls", at) for at in calls if at not in run.places]
    if "usage" in data and not (is_end and run.choice == max(ends)):
        gone.append(("usage",))
    found: dict[Path, Any] = dict.fromkeys(gone, DELETE)
    if choice.get("finish_reason") and not is_end:
        found[*path, "finish_reason"] = None
    return found
