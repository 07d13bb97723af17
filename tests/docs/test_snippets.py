"""Every Python snippet of the documentation runs, offline, and prints what it says that it prints."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTS = re.compile(r"^#> ?(.*)$", re.MULTILINE)


def snippets(page: str) -> list[tuple[int, str]]:
    """(line of the page, code) of every fenced Python block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found.group(1)) for found in _FENCE.finditer(text)]


def execute(page: str) -> dict[str, Any]:
    """Run the blocks of a page one after the other in one namespace, as a reader would."""
    # __future__ flags of this file must not leak into the page's code: dont_inherit
    names: dict[str, Any] = {"__name__": f"docs:{page}"}
    for line, code in snippets(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, str(ROOT / page), "exec", dont_inherit=True), names)
        promised = _PRINTS.findall(code)
        if promised:
            assert printed.getvalue().splitlines() == promised, f"{page}, line {line + 1}"
    return names


def functions_of(names: dict[str, Any]) -> list[Callable[[], Any]]:
    return [value for name, value in names.items() if name.startswith("test_") and callable(value)]


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(page: str) -> None:
    execute(page)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any("def test_" in code for _, code in snippets(page))]
)
def test_the_tests_in_snippets_pass(page: str, backend: str) -> None:
    found = functions_of(execute(page))
    assert found
    for test in found:
        if inspect.iscoroutinefunction(test):
            anyio.run(test, backend=backend)
        else:
            test()


def test_no_page_is_empty_of_words() -> None:
    assert {Path(page).name for page in PAGES} >= {
        "README.md",
        "index.md",
        "policies.md",
        "testing.md",
        "guarantees.md",
        "glossary.md",
    }
