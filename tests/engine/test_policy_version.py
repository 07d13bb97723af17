"""A set of policies has one version, wherever it is configured alike."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from luthien_guard import Guard, Policy
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.version import version_of, versions_of
from luthien_guard.exchange import RequestMetadata
from luthien_guard.records import EventType

LIMITS = {"use": "default-limits", "config": {"max_tokens": 5, "forbidden_words": ["b", "a"]}}


@dataclasses.dataclass(frozen=True)
class Words:
    found: frozenset[str]


class Configured(Policy):
    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            setattr(self, f"_{name}", value)


def version(*items: Any, mode: str = "enforce") -> str:
    return Plan(items, mode=mode).version


def test_it_is_short_and_the_same_for_the_same() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", version())
    again = {"config": dict(reversed(list(LIMITS["config"].items()))), "use": "default-limits"}  # type: ignore[attr-defined]
    assert (
        version(LIMITS, "noop")
        == version(again, {"use": "noop"})
        == version(again, {"use": "noop", "config": {}})
    )


@pytest.mark.parametrize(
    "other",
    [
        [],
        ["noop"],
        [LIMITS],
        ["noop", LIMITS],
        [LIMITS, "noop", "noop"],
        [{**LIMITS, "mode": "shadow"}, "noop"],
        [{**LIMITS, "mode": "off"}, "noop"],
        [{**LIMITS, "on_error": "allow"}, "noop"],
        [{**LIMITS, "timeout": 3}, "noop"],
        [{**LIMITS, "name": "mine"}, "noop"],
        [{**LIMITS, "config": {"max_tokens": 6, "forbidden_words": ["b", "a"]}}, "noop"],
        [{**LIMITS, "config": {"max_tokens": 5, "forbidden_words": ["a", "b"]}}, "noop"],
        [{**LIMITS, "config": {"max_tokens": 5}}, "noop"],
    ],
)
def test_whatever_differs_makes_another(other: Sequence[Any]) -> None:
    assert version(*other) != version(LIMITS, "noop")


def test_observe_is_another() -> None:
    assert version("noop", mode="observe") != version("noop")


def test_instances_count_by_what_they_hold() -> None:
    def made(**changed: Any) -> str:
        held = {
            "a": frozenset("abc"),
            "b": re.compile("x"),
            "c": Words(frozenset("yz")),
            "d": b"\xff",
            "e": (1, None),
        }
        return version(Configured(**{**held, **changed}))

    assert made() == made()
    others = [
        made(a=frozenset("abd")),
        made(b=re.compile("x", re.IGNORECASE)),
        made(c=Words(frozenset("y"))),
        made(d=b"\xfe"),
        made(e=(1, 0)),
        made(f=1),
    ]
    assert len({made(), *others}) == 7
    assert made(lock=object()) == made(lock=object())  # an address is no configuration


def test_what_holds_itself_has_a_version() -> None:
    policy = Configured()
    policy._own = policy  # type: ignore[attr-defined]
    loop: list[Any] = []
    loop.append(loop)
    assert version(policy) != version(Configured(loop=loop))


def test_it_is_the_same_in_every_process() -> None:
    code = (
        "from tests.engine.test_policy_version import *\n"
        "print(version(LIMITS, 'noop', Configured(words=frozenset('abcdef'), other=Words(frozenset('xyz')))))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": seed},
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_sets_of_policies_count_for_the_guard() -> None:
    one, more = Guard(["noop"]), Guard(["noop"], policy_sets={"strict": [LIMITS]})
    assert one.policy_version == version("noop")
    assert more.policy_version not in (one.policy_version, version("noop", LIMITS))
    assert more.policy_version == Guard(["noop"], policy_sets={"strict": [LIMITS]}).policy_version
    assert more.policy_version != Guard(["noop"], policy_sets={"other": [LIMITS]}).policy_version
    one.adopt(more)
    assert one.policy_version == more.policy_version


def test_no_name_is_not_the_empty_name() -> None:
    assert versions_of({None: "a", "": "b"}) != versions_of({None: "b", "": "a"})
    assert version_of([], "enforce") == version()


@pytest.mark.anyio
async def test_the_record_says_which_one() -> None:
    guard = Guard(["noop"], policy_sets={"strict": [LIMITS]})
    found: dict[str | None, str] = {}
    for name in (None, "strict"):
        metadata = RequestMetadata(f"c-{name}", 0.0, policy_set=name)
        await guard.plane.decide_request(metadata, "openai.chat", b'{"model": "m", "messages": []}')
        record = next(
            each for each in guard.records_of(f"c-{name}") if each.type is EventType.REQUEST_RECEIVED
        )
        found[name] = record.details["policy_version"]
    assert found == {None: version("noop"), "strict": version("noop", LIMITS)}
