"""The command line as a user calls it: the demo breaks no law, wrong configurations say what is wrong."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from luthien_guard.cli import main
from luthien_guard.cli.demo.cases import PATHS, recorded, samples, scripted
from luthien_guard.cli.demo.results import Result, play
from luthien_guard.cli.demo.server import Doors, serving
from luthien_guard.cli.demo.table import draw, row_of
from luthien_guard.cli.demo.upstream import Upstream
from luthien_guard.testing.transcript import Transcript
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


RECORDED = {
    "api": "openai.chat",
    "stream": True,
    "response": {"status": 200, "body_text": "data: [DONE]\n\n"},
}


@pytest.mark.parametrize(
    "text",
    [
        "{bad",
        "[]",
        '{"api": ["openai.chat"], "response": {}}',
        '{"api": "openai.chat", "response": {"status": 200}}',
        '{"api": "openai.chat", "response": {"body_text": 5}}',
        '{"api": "openai.chat", "response": {"body_text": "a", "status": "b"}}',
        '{"api": "openai.chat", "response": {"body_text": "a", "status": 999}}',
        "\x80",
    ],
)
def test_files_that_are_no_recordings_are_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    (tmp_path / "b.json").write_text(json.dumps(RECORDED))
    assert [case.name for case in recorded(tmp_path)] == ["b"]


@pytest.mark.parametrize("lengths", [None, ["a"], [-1, 15], [14, 5], []])
def test_cuts_that_cannot_be_are_none(tmp_path: Path, lengths: Any) -> None:
    response = {"status": 200, "body_text": "data: 1\n\ndata: 2\n\n", "chunk_lens": lengths}
    (tmp_path / "a.json").write_text(json.dumps({**RECORDED, "response": response}))
    assert [case.parts for case in recorded(tmp_path)] == [(b"data: 1\n\n", b"data: 2\n\n")]


def test_a_pipe_gets_a_few_lines_a_case() -> None:
    output = CliRunner().invoke(main, ["demo", "--pace", "0", "--limit", "1"]).output
    head, came, left, *_ = output.splitlines()
    assert head.startswith("story, openai.chat stream: uppercase-nth-word; first / last byte ")
    assert came == "  came  The quick brown fox jumps over the lazy dog, and nobody minds."
    assert left == "  left  The quick BROWN fox jumps OVER the lazy DOG, and nobody MINDS."


def test_what_cannot_be_told_from_nothing_is_not_shown_as_less() -> None:
    case = scripted()[0]
    said = Transcript("a")
    result = Result(case, said, said, (), added_first=-3.2, added_last=7.6)
    assert row_of(result)[-1] == "<1 / 8"


@pytest.mark.parametrize("width", [120, 160])
def test_a_wide_terminal_gets_a_table_in_which_no_name_is_cut(width: int) -> None:
    said = Transcript("a text that is longer than its column will be, and so stands in several lines")
    case = next(case for case in scripted() if case.wire_format == "anthropic.messages")
    acted = ("uppercase-nth-word", "tool-call-judge")
    console = Console(width=width, file=StringIO())
    draw([row_of(Result(case, said, said, acted, 1.0, 1.0))], console)
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in drawn for name in (*acted, case.name, case.wire_format, "stream"))


def test_what_is_to_be_tried_has_every_script_and_every_wire_format() -> None:
    shown = samples(scripted())
    assert {case.name for case in shown} == {"story", "clean-up", "password"}
    assert {case.wire_format for case in shown} == set(PATHS)
    assert all(
        "max_output_tokens" in case.request for case in shown if case.wire_format == "openai.responses"
    )
    assert len(samples(scripted()[:2])) == 2


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
