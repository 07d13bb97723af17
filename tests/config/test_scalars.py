"""What a value without quotes is: what everybody reads it for, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luthien_guard.config import load_config
from luthien_guard.errors import ConfigError

BOTH_WAYS = ["policies:\n- use: x\n  config:\n    v: {}", "policy:\n  class: x\n  config:\n    v: {}"]


def value_of(folder: Path, text: str, environ: dict[str, str] | None = None) -> Any:
    file = folder / "guard.yaml"
    file.write_text(text, encoding="utf-8")
    policy = load_config(file, environ=environ or {}).config.policies[0]
    assert not isinstance(policy, str)
    return policy.config["v"]


@pytest.mark.parametrize("text", BOTH_WAYS)
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10", 10),
        ("-1", -1),
        ("0", 0),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e5", 1e5),
        ("1.5", 1.5),
        ("0.5", 0.5),
        (".inf", float("inf")),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("y", "y"),
        ("1:30", "1:30"),
        ("2026-13-45", "2026-13-45"),
        ("=", "="),
        ("1_", "1_"),
        ("'no'", "no"),
        ('"010"', "010"),
    ],
)
def test_it_is_what_everybody_reads(tmp_path: Path, text: str, written: str, meant: Any) -> None:
    found = value_of(tmp_path, text.format(written))
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize("text", BOTH_WAYS)
@pytest.mark.parametrize("written", ["010", "-010", "08", "0b1", "0o10", "0x_1", "yes", "No", "on", "OFF"])
def test_what_some_read_otherwise_is_an_error_with_its_line(tmp_path: Path, text: str, written: str) -> None:
    with pytest.raises(ConfigError, match=r"guard.yaml:4: .*or quote it$"):
        value_of(tmp_path, text.format(written))
    with pytest.raises(ConfigError, match=r"guard.yaml:4: environment variable V: .*or quote it$"):
        value_of(tmp_path, text.format("${V}"), {"V": written})


def test_types_say_which_of_two_words_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("policy_sets: {config: [{use: noop, mode: off}]}\nserver: {metrics: no, fleet: on}\n")
    config = load_config(file, environ={}).config
    assert (config.server.metrics, config.server.fleet) == (False, "on")


def test_nothing_is_merged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guard.yaml:1: policies.0.<<: unknown key"):
        value_of(tmp_path, "policies: [{use: noop, <<: {mode: off}}]")


@pytest.mark.parametrize("text", BOTH_WAYS)
@pytest.mark.parametrize(
    ("written", "value", "meant"),
    [
        ("${V}", "5", 5),
        ("${V}", " 5 ", 5),
        ("${V:-0.5}", "", 0.5),
        ("${V}", "true", True),
        ("${V:-}", "", None),
        ('"${V}"', "5", "5"),
        ('"${V}"', "", ""),
        ("'${V}'", "no", "no"),
        ("a${V}", "5", "a5"),
        ("${V}0", "5", "50"),
        ("${V}", "pass #word: [x", "pass #word: [x"),
        ("${V}", " text ", " text "),
        ("${V}", "[1]", "[1]"),
        ("${V}", "2026-01-01", "2026-01-01"),
    ],
)
def test_a_reference_without_quotes_is_its_value_in_its_place(
    tmp_path: Path, text: str, written: str, value: str, meant: Any
) -> None:
    found = value_of(tmp_path, text.format(written), {"V": value})
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize("text", BOTH_WAYS)
def test_a_limit_that_is_empty_is_not_taken_for_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"guard.yaml:4: environment variable V is empty: \$\{V:-\} says"):
        value_of(tmp_path, text.format("${V}"), {"V": ""})


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("5", 5),
        ("'5'", "5"),
        ("[1, 'a']", [1, "a"]),
        ('{"a": 1}', {"a": 1}),
        ("a #b", "a #b"),
        ("a: b", "a: b"),
        ("", None),
    ],
)
def test_so_is_a_variable_of_the_setting(tmp_path: Path, value: str, meant: Any) -> None:
    found = value_of(tmp_path, BOTH_WAYS[0].format("x"), {"LUTHIEN_POLICIES__0__CONFIG__V": value})
    assert (found, type(found)) == (meant, type(meant))
