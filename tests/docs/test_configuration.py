"""Configurations and commands that the pages show are valid, and the page about configuration leaves no setting out."""

from __future__ import annotations

import configparser
import re
import shlex
import tomllib
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from luthien_guard.cli import main
from luthien_guard.config import load_config
from luthien_guard.config.settings import AuthSettings, GuardConfig, ServerSettings, UpstreamSettings
from luthien_guard.gateway.hosts import check_binding
from luthien_guard.limits import Limits

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
}
ENVIRON = {
    "ANTHROPIC_API_KEY": "a",
    "OPENAI_API_KEY": "o",
    "SPARE_KEY": "s",
    "DATABASE_URL": "postgresql://db.example/guard",
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


def manifests() -> dict[str, Any]:
    found = [text for text in blocks("deploy", "yaml") if "apiVersion" in text]
    return {each["kind"]: each for each in yaml.safe_load_all(found[0])}


def configurations() -> list[str]:
    plain = [text for page in PAGES for text in blocks(page, "yaml") if "apiVersion" not in text]
    return [*plain, manifests()["ConfigMap"]["data"]["guard.yaml"]]


@pytest.mark.parametrize("number", range(len(configurations())))
def test_every_configuration_that_is_shown_is_valid(tmp_path: Path, number: int) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(configurations()[number])
    check_binding(load_config(file, environ=ENVIRON).config)


@pytest.mark.parametrize(
    ("heading", "model", "apart"),
    [
        ("Settings at the top", GuardConfig, {"auth", "upstreams", "server"}),
        ("`auth`", AuthSettings, set()),
        ("`upstreams`", UpstreamSettings, set()),
        ("`server`", ServerSettings, set()),
    ],
)
def test_every_setting_is_documented(heading: str, model: Any, apart: set[str]) -> None:
    section = PAGES["configuration"].split(f"### {heading}\n")[1].split("\n#")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(model.model_fields) - apart


def test_every_limit_is_documented_with_its_default() -> None:
    section = PAGES["configuration"].split("### `limits`\n")[1].split("\n#")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))
    assert documented == {name: str(value) for name, value in asdict(Limits()).items()}


def shown_in(text: str) -> list[list[str]]:
    """The arguments of each `luthien-guard` in lines for a shell, which may hold several commands, and remarks."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$"), posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        for is_end, words in groupby(lexer, lambda word: set(word) <= {"|", "&", ";"}):
            name, *arguments = words
            if not is_end and name.rpartition("/")[2] == "luthien-guard":
                found.append(arguments)
    return found


def commands() -> list[list[str]]:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(blocks("deploy", "ini")[0])
    service = unit["Service"]
    container = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    dockerfile = re.findall(r"^CMD (\[.*\])$", blocks("deploy", "dockerfile")[0], re.MULTILINE)
    shown = [shlex.split(service[name])[1:] for name in ("ExecStart", "ExecStartPre")]
    shown += [container["args"], yaml.safe_load(dockerfile[0])]
    for page in PAGES:
        for language in ("console", "sh"):
            shown += [arguments for text in blocks(page, language) for arguments in shown_in(text)]
    return [arguments for arguments in shown if arguments != ["--help"]]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_that_is_shown_is_one(arguments: list[str]) -> None:
    """Parsed as click would, without being run."""
    command: click.Command = main
    with click.Context(main) as context:
        rest = list(arguments)
        while isinstance(command, click.Group):
            inner = command.make_context(command.name, rest, parent=context, resilient_parsing=False)
            name, command, rest = command.resolve_command(inner, [*inner._protected_args, *inner.args])  # type: ignore[assignment]
            assert name is not None
        command.make_context(command.name, rest, parent=context)


def test_every_command_is_in_the_table() -> None:
    """Some share a row: each row names them in code, before their arguments."""
    rows = re.findall(r"^\| (`.*?) \| ", PAGES["cli"].split("## Exit codes")[0], re.MULTILINE)
    named = [re.split(r"\W", name)[0] for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert isinstance(main, click.Group)
    assert sorted(named) == main.list_commands(click.Context(main))


@pytest.mark.parametrize("page", PAGES)
def test_every_toml_is_toml(page: str) -> None:
    for text in blocks(page, "toml"):
        assert tomllib.loads(text)


def test_probes_ask_what_is_served() -> None:
    container = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    for probe in ("readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] in ("/health/ready", "/health/live")
        assert asked["port"] == container["ports"][0]["containerPort"] == 8000
        assert asked["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_supervisors_wait_longer_than_the_gateway() -> None:
    own = ServerSettings().shutdown_timeout
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > own
    assert int(re.findall(r"TimeoutStopSec=(\d+)", PAGES["deploy"])[0]) > own
