"""docs/policies.md lists every hook with its exact arguments, and none that does not exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from luthien_guard import hookspecs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")


def test_the_table_of_hooks_is_the_hookspecs() -> None:
    documented = re.findall(r"^\| `(on_\w+)\(([^)]*)\)` \|", PAGE, re.MULTILINE)
    specified = [
        (name, ", ".join(inspect.signature(value).parameters))
        for name, value in vars(hookspecs).items()
        if name.startswith("on_")
    ]
    assert documented == specified


def test_every_link_between_pages_leads_somewhere() -> None:
    root = Path(__file__).resolve().parents[2]
    for page in [*root.glob("*.md"), *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
