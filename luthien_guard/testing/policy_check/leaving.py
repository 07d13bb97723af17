"""What leaves: no text that must not, wherever an answer says it; in shadow, every byte as it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luthien_guard.testing.places import answers_with
from luthien_guard.testing.policy_check.checked import run_checked
from luthien_guard.testing.runs import run
from luthien_guard.testing.script import Script

__all__ = ["check_leaves", "check_shadow"]


async def check_leaves(policy: Any, text: str, formats: Iterable[str], options: Mapping[str, Any]) -> None:
    for place, script in answers_with(text).items():
        spoken = [each for each in formats if each in script.wire_formats]
        if not spoken:
            continue
        runs = await run_checked(f"in {place}", policy, script, "whole", {**options, "wire_formats": spoken})
        try:
            runs.no_leak(text)
        except AssertionError as error:
            raise AssertionError(f"in {place}: {error}") from None


async def check_shadow(policy: Any, script: Script, options: Mapping[str, Any]) -> None:
    shadow: dict[str, Any] = {**options, "mode": "observe"}
    runs = await run(policy, script, cuts="whole", **shadow)
    try:
        runs.assert_unchanged()
    except AssertionError as error:
        raise AssertionError(f"in shadow mode: {error}") from None
