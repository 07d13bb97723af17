"""docs/policies.md lists every hook with its exact arguments, and none that does not exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from luthien_guard import Policy, hookspecs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")


def test_the_table_of_hooks_is_the_hookspecs() -> None:
    documented = re.findall(r"^\| `(on_\w+)\(([^)]*)\)` \|", PAGE, re.MULTILINE)
    specified = [
        (name, ", ".join(inspect.signature(value).parameters))
        for name, value in vars(hookspecs).items()
        if name.startswith("on_")
    ]
    assert documented == specified


def test_the_table_of_declarations_is_the_policys() -> None:
    section = PAGE.split("## What a policy declares")[1].split("## ")[0]
    declared = Policy.__annotations__.keys() - {"Config"}
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {*declared, "remember"}
