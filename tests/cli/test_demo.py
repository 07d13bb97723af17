"""The command line as a user calls it: the demo breaks no law, wrong configurations say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from luthien_guard.cli import main
from luthien_guard.cli.demo.cases import recorded, scripted
from luthien_guard.cli.demo.results import play
from luthien_guard.cli.demo.server import Doors, serving
from luthien_guard.cli.demo.upstream import Upstream
from tests.recordings import FOLDER, needs_recordings


def test_the_demo_runs_to_its_end_and_breaks_no_law() -> None:
    result = CliRunner().invoke(main, ["demo", "--pace", "0"])
    assert result.exit_code == 0, result.output
    assert "laws broken by 0" in result.output
    assert "tool-call-judge" in result.output
    assert "UP" in result.output


@needs_recordings
def test_recorded_traffic_can_be_replayed() -> None:
    result = CliRunner().invoke(main, ["demo", "--recordings", str(FOLDER), "--limit", "30", "--pace", "0"])
    assert result.exit_code == 0, result.output


def test_a_broken_law_is_seen() -> None:
    """The checks are not for show: a guard that lets the forbidden word through is found out."""
    case = next(case for case in scripted() if case.name == "password" and case.stream)
    upstream = Upstream([case], 0.0)
    doors = Doors(upstream)
    doors._doors["/guarded"] = upstream
    with serving(doors) as port:
        result = play(case, port, doors, upstream)
    assert any("hunter2" in law for law in result.broken)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    assert list(recorded(tmp_path)) == []
    result = CliRunner().invoke(main, ["demo", "--recordings", str(tmp_path)])
    assert result.exit_code == 1
    assert "no recorded exchanges" in result.output


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (
            "policies: [noop, {use: default-limits, config: {forbidden_words: [abc]}}]",
            0,
            "text: 3 characters",
        ),
        ("policies: []", 0, "no policies"),
        ("polices: []", 2, "did you mean 'policies'?"),
        ("policies:\n  - use: noop\n    mod: shadow", 2, "guard.yaml:3"),
        ("policies: [nop]", 2, "did you mean 'noop'?"),
        ("a: 1\na: 2", 2, "duplicate key"),
        ("policies: {", 2, "guard.yaml"),
        ("limits: {max_request_byte: 5}", 2, "did you mean 'max_request_bytes'?"),
        ('policy: {class: "luthien_guard.policies.noop:Noop"}', 0, "1. Noop: holds nothing"),
    ],
)
def test_a_configuration_is_checked(tmp_path: Path, text: str, code: int, says: str) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == code, result.output
    assert says in result.output


def test_help_needs_no_heavy_module() -> None:
    import subprocess
    import sys

    code = "import sys, luthien_guard, luthien_guard.cli; print([m for m in ('litellm','starlette','sqlalchemy','openai','anthropic','uvicorn') if m in sys.modules])"
    output: Any = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"
