"""`luthien-guard launch`: a client behind the gateway, nothing left behind. The clients here are scripts with their
names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.cli.clients import CLIENTS, PLACEHOLDER, Door, client_start
from luthien_guard.testing.provider import serving
from tests.cli.processes import PROGRAM, SECRET, Upstream, environment, eventually, refuses, run, served

CLIENT = """\
#!{python}
import http.client, json, os, signal, sys
from urllib.parse import urlsplit
url = os.environ.get("ANTHROPIC_BASE_URL")
facts = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}}
if url:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    body = json.dumps({{"model": "m", "messages": [{{"role": "user", "content": "hi"}}]}})
    key = os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ.get("ANTHROPIC_API_KEY", "none")
    connection.request("POST", "/v1/chat/completions", body, {{"content-type": "application/json", "x-api-key": key}})
    answer = connection.getresponse()
    facts["answer"] = [answer.status, answer.read().decode()]
with open(os.path.join(os.environ["HOME"], "facts.json.new"), "w") as file:
    json.dump(facts, file)
os.rename(file.name, file.name[:-4])
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    signal.pause()
sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    import sys

    (tmp_path / "bin").mkdir()
    for name in CLIENTS:
        script = tmp_path / "bin" / name
        script.write_text(CLIENT.format(python=sys.executable))
        script.chmod(0o755)
    return tmp_path


@pytest.fixture
def upstream() -> Iterator[str]:
    with serving(Upstream()) as url:
        yield url


def configured(home: Path, url: str, further: str = "") -> Path:
    file = home / "guard.yaml"
    policies = f"policies: [{{use: default-limits, config: {{forbidden_words: [{SECRET}]}}}}]"
    file.write_text(
        f'{policies}\nupstreams: [{{native: openai.chat, base_url: "{url}", api_key: sk-host}}]\n{further}'
    )
    return file


def path(home: Path) -> str:
    return f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"


def facts(home: Path) -> Any:
    return json.loads((home / "facts.json").read_text())


def files(home: Path) -> set[str]:
    """What is there, without what the gateway keeps for itself."""
    return {
        str(each.relative_to(home)) for each in home.rglob("*") if "data" not in each.relative_to(home).parts
    }


def test_a_client_runs_behind_a_gateway_of_its_own(home: Path, upstream: str, tmp_path: Path) -> None:
    file = configured(home, upstream, "auth: {mode: client_key}")
    scratch = home / "scratch"
    scratch.mkdir()
    before = files(home)
    ended = run(
        home, "launch", "--config", str(file), "claude", "--", "-p", "a b", "--help", "7",
        PATH=path(home), TMPDIR=str(scratch), ANTHROPIC_API_KEY="sk-mine", LUTHIEN_PEPPER="p", CLAUDE_CODE_USE_BEDROCK="1",
    )  # fmt: skip
    assert ended.returncode == 7, ended.stderr
    found = facts(home)
    assert found["arguments"][2:] == ["-p", "a b", "--help", "7"]
    status, body = found["answer"]
    assert status == 200
    assert SECRET not in body
    assert "CLAUDE_CODE_USE_BEDROCK" in ended.stderr
    assert not [
        name
        for name in found["environment"]
        if name.startswith("LUTHIEN") or name == "CLAUDE_CODE_USE_BEDROCK"
    ]
    # afterwards: the gateway is gone, its key is revoked, and nothing lies about
    assert refuses(found["environment"]["ANTHROPIC_BASE_URL"])
    assert files(home) == before | {"facts.json"}
    listed = run(home, "keys", "--config", str(file), "list", LUTHIEN_PEPPER="p").stdout
    assert "launch claude" in listed
    assert "active" not in listed


def test_a_gateway_that_runs_is_used_and_left_running(home: Path, upstream: str) -> None:
    file = configured(home, upstream)
    with served(home, file) as gateway:
        notice = home / "data" / "luthien-guard" / "gateway.json"
        (home / "notice.json").rename(notice)  # where it stands without --announce
        ended = run(home, "launch", "--config", str(file), "claude", PATH=path(home))
        assert ended.returncode == 0, ended.stderr
        assert facts(home)["environment"]["ANTHROPIC_BASE_URL"] == gateway.url
        assert gateway.get("/health")[0] == 200


def test_an_end_from_outside_ends_client_and_gateway(home: Path, upstream: str) -> None:
    file = configured(home, upstream)
    command = [*PROGRAM, "launch", "--config", str(file), "claude", "wait"]
    process = subprocess.Popen(command, env=environment(home, PATH=path(home)), stderr=subprocess.DEVNULL)
    try:
        eventually((home / "facts.json").exists, 120)
        url = facts(home)["environment"]["ANTHROPIC_BASE_URL"]
        process.send_signal(signal.SIGINT)  # the client's own business: nothing ends
        assert not refuses(url)
        # until the client listens to SIGTERM, it ends by it: 128 + 15
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (9, 143)
        assert refuses(url)
    finally:
        process.kill()
        process.wait()


def test_a_gateway_that_does_not_start_is_told(home: Path) -> None:
    (home / "guard.yaml").write_text("policies: [nop]")
    ended = run(home, "launch", "--config", "guard.yaml", "claude", PATH=path(home))
    assert ended.returncode == 2
    assert "did you mean 'noop'?" in ended.stderr
    assert not (home / "facts.json").exists()


def test_a_client_that_is_not_there_is_told(home: Path) -> None:
    (home / "bin" / "codex").unlink()
    ended = run(home, "launch", "codex", PATH=str(home / "bin"))
    assert ended.returncode == 2
    assert "codex is not installed" in ended.stderr


# -- what each client is told ------------------------------------------------------------------------------------------

URL = "http://127.0.0.1:8000"


def test_claude_keeps_its_own_credential_where_that_is_passed_on() -> None:
    start = client_start("claude", Door(URL), ["-p", "x"], {"ANTHROPIC_API_KEY": "mine", "NO_PROXY": "corp"})
    assert start.arguments[3:] == ["-p", "x"]
    assert start.environment["ANTHROPIC_API_KEY"] == "mine"
    assert start.environment["ANTHROPIC_BASE_URL"] == URL
    assert start.environment["NO_PROXY"].startswith("corp,127.0.0.1")
    assert "ANTHROPIC_AUTH_TOKEN" not in start.environment


def test_claude_has_one_credential_only() -> None:
    start = client_start("claude", Door(URL, key="lg_1"), [], {"ANTHROPIC_API_KEY": "mine"})
    assert start.environment["ANTHROPIC_AUTH_TOKEN"] == "lg_1"
    assert "ANTHROPIC_API_KEY" not in start.environment


OVER: dict[str, Any] = {
    "ANTHROPIC_BASE_URL": URL,
    "CLAUDE_CODE_USE_BEDROCK": "0",
    "CLAUDE_CODE_USE_VERTEX": "0",
}


def test_claudes_own_settings_do_not_lead_past_the_gateway(tmp_path: Path) -> None:
    """A project's `.claude/settings.json` may hold an `env`; only `--settings` stands over it."""
    (tmp_path / "own.json").write_text(
        '{"model": "m", "env": {"ANTHROPIC_BASE_URL": "http://evil.example", "A": "b"}}'
    )
    own = str(tmp_path / "own.json")
    inline = (tmp_path / "own.json").read_text()
    for arguments in ([], ["--settings", own, "-p", "x"], [f"--settings={own}"], ["--settings", inline]):
        start = client_start("claude", Door(URL, key="lg_1"), arguments, {})
        assert [each for each in start.arguments if each.startswith("--settings")] == ["--settings"]
        settings = json.loads(start.arguments[start.arguments.index("--settings") + 1])
        assert settings["env"].items() >= OVER.items()
        if arguments:
            assert (settings["model"], settings["env"]["A"]) == ("m", "b")
        assert not any("lg_1" in each for each in start.arguments)


def test_settings_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    start = client_start("claude", Door(URL), ["--settings", str(tmp_path / "none.json")], {})
    assert any("past the gateway" in note for note in start.notes)


def test_a_client_without_a_credential_starts_where_the_gateway_pays() -> None:
    assert (
        client_start("claude", Door(URL, pays=True), [], {}).environment["ANTHROPIC_AUTH_TOKEN"]
        == PLACEHOLDER
    )
    assert client_start("codex", Door(URL, pays=True), [], {}).environment["OPENAI_API_KEY"] == PLACEHOLDER


def test_codex_is_given_a_provider_of_its_own() -> None:
    start = client_start("codex", Door(URL, key="lg_1"), ["exec", "x"], {})
    assert start.arguments[0] == "codex"
    assert start.arguments[-2:] == ["exec", "x"]
    options = dict(each.split("=", 1) for each in start.arguments[2:-2:2])
    assert options["model_provider"] == '"luthien"'
    assert options["model_providers.luthien.base_url"] == f'"{URL}/v1"'
    assert options["model_providers.luthien.env_key"] == '"OPENAI_API_KEY"'
    assert start.environment["OPENAI_API_KEY"] == "lg_1"
    import tomllib

    for name, value in options.items():
        tomllib.loads(f"{name} = {value}")


def test_codex_without_a_key_uses_its_login() -> None:
    start = client_start("codex", Door(URL), [], {})
    assert "model_providers.luthien.requires_openai_auth=true" in start.arguments
    assert not any("env_key" in each for each in start.arguments)


def test_opencode_is_configured_inline_over_what_is_there() -> None:
    given = {"OPENCODE_CONFIG_CONTENT": '{"theme": "x", "provider": {"openai": {"options": {"timeout": 1}}}}'}
    start = client_start("opencode", Door(URL, key="lg_1"), ["run", "x"], given)
    config = json.loads(start.environment["OPENCODE_CONFIG_CONTENT"])
    assert config["theme"] == "x"
    assert config["provider"]["openai"]["options"] == {"timeout": 1, "baseURL": f"{URL}/v1", "apiKey": "lg_1"}
    assert config["provider"]["anthropic"]["options"]["baseURL"] == f"{URL}/v1"


def test_the_gateways_secrets_do_not_go_along() -> None:
    given = {"LUTHIEN_PEPPER": "x", "LUTHIEN_UPSTREAMS__0__API_KEY": "x", "POLICY_CONFIG": "x", "HOME": "/h"}
    assert "x" not in client_start("claude", Door(URL), [], given).environment.values()
