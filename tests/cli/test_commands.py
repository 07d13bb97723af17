"""The commands that only look: check, config, keys, policies, doctor, completion."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner, Result

from luthien_guard import Guard
from luthien_guard.cli import main
from luthien_guard.cli.checks import address, clock, disk, port, reachable
from luthien_guard.cli.serving import bound
from luthien_guard.cli.terminal import columns, printable
from luthien_guard.config.load import Loaded
from luthien_guard.config.origin import Origins
from luthien_guard.config.settings import GuardConfig, ServerSettings, UpstreamSettings
from luthien_guard.gateway import create_app
from luthien_guard.testing.provider import serving
from tests.cli.processes import Upstream, eventually, run

FULL = """\
policies: [{use: noop, mode: shadow}, {use: default-limits, config: {forbidden_words: [hunter2]}, on_error: allow}]
store: postgresql://me:hunter3@127.0.0.1/x
auth: {mode: client_key, keys: keys.db}
upstreams:
  - {match: "claude-*", native: anthropic.messages, base_url: "https://api.anthropic.com", api_key: "${PROVIDER_KEY}"}
  - {match: [a, b], native: [openai.chat], base_url: "http://127.0.0.1:9/v1", name: local, fallback: []}
  - {match: "gpt-*", native: openai.chat}
server: {port: 0, unknown_paths: observe}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "guard.yaml").write_text(FULL)
    return tmp_path


def invoke(home: Path, *arguments: str, **more: str) -> Result:
    """In the home's own folder and data folder; nothing else of the environment is ours."""
    ours = {name: None for name in os.environ if name.startswith("LUTHIEN_") or name == "POLICY_CONFIG"}
    environ = {**ours, "XDG_DATA_HOME": str(home / "data"), "PROVIDER_KEY": "hunter4", **more}
    runner = CliRunner(env=environ)
    before = Path.cwd()
    os.chdir(home)
    try:
        return runner.invoke(main, arguments)
    finally:
        os.chdir(before)


# -- check -------------------------------------------------------------------------------------------------------------


def test_check_prints_the_effective_plan(home: Path) -> None:
    result = invoke(home, "check", "guard.yaml")
    assert result.exit_code == 0, result.output
    for says in (
        "1. noop: holds nothing (mode shadow)",
        "2. default-limits: holds text: 7 characters, tool calls: whole (when it fails: allow)",
        "leak bound: text: 7 characters (held by default-limits); tool calls: whole (held by default-limits)",
        "POST /v1/messages",
        "other /v1 paths: observe",
        "1. claude-* -> native [anthropic.messages] https://api.anthropic.com, with its own key",
        "2. a, b -> native [openai.chat] http://127.0.0.1:9/v1, with the caller's key",
        "3. gpt-* -> native [openai.chat] the public API, with the caller's key",
        "authentication client_key",
    ):
        assert says in result.output, says
    assert not re.search("hunter[34]", result.output)


def test_check_says_the_version_that_health_says(home: Path) -> None:
    file = home / "guard.yaml"
    file.write_text(
        "policies: [noop]\npolicy_sets: {strict: [{use: default-limits, config: {max_tokens: 9}}]}"
    )
    guard = Guard.from_config(file)
    said = invoke(home, "check", "guard.yaml").output
    assert f"version of all of them, as /health says it: {guard.policy_version}\n" in said
    file.write_text("policies: [noop]")
    assert "as /health" not in invoke(home, "check", "guard.yaml").output


def test_check_takes_the_file_that_the_environment_names(home: Path) -> None:
    assert invoke(home, "check", POLICY_CONFIG="guard.yaml").exit_code == 0
    empty = invoke(home, "check", POLICY_CONFIG="")
    assert (empty.exit_code, "POLICY_CONFIG is empty" in empty.output) == (2, True)
    assert "name a file, or set POLICY_CONFIG" in invoke(home, "check").output
    assert invoke(home, "check").exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upstreams: [{match: x}]", "exactly one of native, litellm and replay"),
        ("upstreams: [{native: openai.chat, fallback: [nobody]}]", "'nobody'"),
        ("upstreams: [{native: openai.chat, base_url: 'ftp://x'}]", "base_url"),
        ("server: {host: 0.0.0.0}\nauth: {mode: off}", "anyone could use"),
        ("policies: [{use: default-limits, config: {max_tokens: 0}}]", "max_tokens is 0"),
    ],
)
def test_check_finds_what_serving_would_find(home: Path, text: str, says: str) -> None:
    (home / "guard.yaml").write_text(text)
    result = invoke(home, "check", "guard.yaml")
    assert result.exit_code == 2
    assert says in result.output


def test_check_and_doctor_warn_of_a_key_that_goes_to_whichever_provider_a_client_names(home: Path) -> None:
    (home / "guard.yaml").write_text("upstreams: [{name: all, match: '*', litellm: {}, api_key: hunter4}]")
    for command in (["check"], ["doctor", "--offline"]):
        result = invoke(home, *command, POLICY_CONFIG="guard.yaml")
        assert result.exit_code == 0, result.output
        assert "match '*' leaves it to the client" in result.output
    (home / "guard.yaml").write_text(
        "upstreams: [{name: all, match: 'openai/*', litellm: {}, api_key: hunter4}]"
    )
    assert "leaves it" not in invoke(home, "check", "guard.yaml").output


# -- config ------------------------------------------------------------------------------------------------------------


def test_config_show_says_where_each_value_comes_from(home: Path) -> None:
    result = invoke(home, "config", "show", "--origin", "--config", "guard.yaml", LUTHIEN_SERVER__WORKERS="3")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert lines["server.port"].endswith("guard.yaml:8")
    assert lines["server.workers"].endswith("environment LUTHIEN_SERVER__WORKERS")
    assert lines["server.host"].endswith("default")
    assert "********" in lines["upstreams.0.api_key"]
    assert not re.search("hunter[34]", result.output)


@pytest.mark.parametrize("options", [[], ["--json"], ["--origin", "--json"]])
def test_config_show_never_shows_a_secret(home: Path, options: list[str]) -> None:
    result = invoke(home, "config", "show", "--config", "guard.yaml", *options)
    assert result.exit_code == 0, result.output
    assert not re.search("hunter[34]", result.output)
    if "--json" in options:
        json.loads(result.output)


def test_config_schema_is_json(home: Path) -> None:
    schema = json.loads(invoke(home, "config", "schema").output)
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["$defs"]["ServerSettings"]["properties"]["port"]["anyOf"][0]["maximum"] == 65535


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_listed_and_revoked(home: Path) -> None:
    made = invoke(
        home,
        "keys",
        "--config",
        "guard.yaml",
        "create",
        "--name",
        "me\x1b[31m",
        "--scope",
        "chat",
        "--expires",
        "30d",
    )
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert re.fullmatch(r"lg_[0-9a-f]{12}_[0-9a-f]{64}", key)
    listed = invoke(home, "keys", "--config", "guard.yaml", "list").output
    assert key not in listed
    assert r"me\x1b[31m" in listed
    assert "active" in listed
    id = key.split("_")[1]
    assert invoke(home, "keys", "--config", "guard.yaml", "revoke", key).exit_code == 2
    assert invoke(home, "keys", "--config", "guard.yaml", "revoke", id).exit_code == 0
    assert invoke(home, "keys", "--config", "guard.yaml", "revoke", id).exit_code == 2
    assert "revoked" in invoke(home, "keys", "--config", "guard.yaml", "list").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scope", "chats"], "did you mean 'chat'?"),
        (["--expires", "soon"], "write 30m, 12h or 90d"),
        (["--expires", "0d"], "write 30m, 12h or 90d"),
        (["--requests-per-minute", "0"], "not in the range"),
    ],
)
def test_a_key_is_not_made_of_nonsense(home: Path, arguments: list[str], says: str) -> None:
    result = invoke(home, "keys", "--config", "guard.yaml", "create", *arguments)
    assert result.exit_code == 2
    assert says in result.output
    assert not (home / "keys.db").exists()


def test_a_key_may_bring_policies_of_its_own(home: Path) -> None:
    sets = '{"strict": ["noop"]}'
    created = ("keys", "--config", "guard.yaml", "create", "--policies")
    assert invoke(home, *created, "strict", LUTHIEN_POLICY_SETS=sets).exit_code == 0
    listed = invoke(home, "keys", "--config", "guard.yaml", "list").output
    assert "strict" in listed
    wrong = invoke(home, *created, "strct", LUTHIEN_POLICY_SETS=sets)
    assert wrong.exit_code == 2
    assert "did you mean 'strict'?" in wrong.output
    checked = invoke(home, "check", "guard.yaml", LUTHIEN_POLICY_SETS=sets).output
    assert "for keys with the policies 'strict':\n1. noop" in checked
    assert "3. noop#2" in checked


# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_strangers_policies_are_told_from_what_is_none(tmp_path: Path) -> None:
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    names = "silent = stranger:Silent\nmade = stranger:made\n"
    (metadata / "entry_points.txt").write_text(f"[luthien_guard.policies]\n{names}")
    (tmp_path / "stranger.py").write_text(
        "from luthien_guard import Policy\nclass Silent(Policy): ...\ndef made(): return Silent()\n"
    )
    command = [sys.executable, "-m", "luthien_guard.cli", "policies", "list"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    told = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    ).stdout
    rows = {line.split()[0]: line for line in told.splitlines()}
    assert rows["silent"].split() == ["silent", "-", "stranger", "1.0"]
    assert "is no subclass of luthien_guard.Policy" in rows["made"]


def test_policies_are_listed_and_shown(home: Path) -> None:
    listed = invoke(home, "policies", "list").output
    assert {"noop", "default-limits"} <= {line.split()[0] for line in listed.splitlines()}
    shown = invoke(home, "policies", "show", "default-limits").output
    assert "forbidden_words" in shown
    assert "on_tool_call_completed" in shown
    missing = invoke(home, "policies", "show", "default-limit")
    assert missing.exit_code == 2
    assert "did you mean 'default-limits'?" in missing.output


def test_the_plan_says_what_each_policy_hears(home: Path) -> None:
    result = invoke(home, "policies", "plan", "--config", "guard.yaml")
    assert "hears on_request_started, on_content_chunk, on_tool_call_completed" in result.output


# -- doctor ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[str]:
    with serving(Upstream()) as url:
        yield url


def findings(result: Result) -> dict[str, str]:
    return {
        line.split(maxsplit=1)[1].split("  ")[0]: line for line in result.output.splitlines() if "  " in line
    }


def test_the_doctor_finds_what_is_broken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {
            "LUTHIEN_SERVER__PORT": port,
            "LUTHIEN_UPSTREAMS": '[{"native": "openai.chat", "base_url": "http://127.0.0.1:9", "name": "away"}]',
        }
        result = invoke(home, "doctor", "--config", "guard.yaml", **environ)
    assert result.exit_code == 1, result.output
    found = findings(result)
    assert found["port"].startswith("FAIL")
    assert "no key is active" in found["keys"]
    assert "does not answer" in found["upstream away"]


def test_the_doctor_finds_nothing_where_nothing_is_broken(home: Path, upstream: str) -> None:
    environ = {
        "LUTHIEN_UPSTREAMS": json.dumps(
            [{"native": "openai.chat", "base_url": upstream, "api_key": "hunter4"}]
        )
    }
    assert invoke(home, "keys", "--config", "guard.yaml", "create").exit_code == 0
    result = invoke(home, "doctor", "--config", "guard.yaml", **environ)
    assert result.exit_code == 0, result.output
    assert "agrees" in findings(result)["clock"]
    assert "hunter4" not in result.output
    (home / "keys.db").chmod(0o644)
    result = invoke(home, "doctor", "--offline", "--config", "guard.yaml")
    assert "can be read by others" in findings(result)["keys"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "[::1]"])
def test_the_doctor_knows_a_gateway_on_any_address(host: str) -> None:
    with bound(host, 0) as listening:
        settings = ServerSettings(host=host, port=listening.getsockname()[1])
        gateway = create_app(Guard(), server=settings)
        server = uvicorn.Server(uvicorn.Config(gateway, log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        eventually(lambda: server.started)
        finding = port(Loaded(GuardConfig(server=settings), Origins()))
        server.should_exit = True
        thread.join(10)
    assert (finding.state, "a gateway answers" in finding.says) == ("ok", True), finding


@pytest.mark.parametrize(
    ("native", "there"),
    [
        ("anthropic.messages", "https://api.anthropic.com"),
        (["anthropic.messages"], "https://api.anthropic.com"),
        (["openai.chat", "openai.responses"], "https://api.openai.com/v1"),
        ([], "https://api.openai.com/v1"),
    ],
    ids=str,
)
def test_the_doctor_asks_the_provider_that_the_gateway_would(native: str | list[str], there: str) -> None:
    assert address(UpstreamSettings(native=native)) == there


@pytest.mark.parametrize("store", ["sqlite:///{}/a%20b/guard.db", "jsonl:///{}/a%20b/guard.jsonl"])
def test_the_doctor_looks_at_the_disk_of_the_store(tmp_path: Path, store: str) -> None:
    (tmp_path / "a b").mkdir()
    finding = disk(Loaded(GuardConfig(store=store.format(tmp_path)), Origins()))
    assert finding.says.endswith(f"free at {tmp_path / 'a b'}")


def test_the_doctor_sends_no_credential() -> None:
    app = Upstream()
    with serving(app) as url:
        settings = UpstreamSettings(
            native="openai.chat", base_url=url, api_key="hunter4", headers={"x-key": "hunter4"}
        )
        finding, _ = reachable(settings, "here")
    assert finding.state == "ok"
    assert "hunter4" not in json.dumps(app.headers)


@pytest.mark.parametrize(
    ("offset", "state"), [(0.0, "ok"), (-29.0, "ok"), (31.0, "warning"), (-3600.0, "warning"), (None, "ok")]
)
def test_a_clock_that_is_wrong_is_told(offset: float | None, state: str) -> None:
    assert clock(offset).state == state


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_completion(home: Path, shell: str) -> None:
    assert "_LUTHIEN_GUARD_COMPLETE" in invoke(home, "completion", shell).output


def test_a_shell_completes_our_commands(tmp_path: Path) -> None:
    ended = run(
        tmp_path, _LUTHIEN_GUARD_COMPLETE="bash_complete", COMP_WORDS="luthien-guard po", COMP_CWORD="1"
    )
    assert ended.stdout.split() == ["plain,policies"]


def test_help_names_every_command_and_imports_none(tmp_path: Path) -> None:
    code = (
        "import sys; from luthien_guard.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('litellm', 'starlette', 'uvicorn', 'aiohttp', 'pydantic', 'yaml', 'openai', 'sqlalchemy', 'rich')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, imported = ended.stdout.strip().splitlines()
    assert {"serve", "check", "config", "keys", "policies", "launch", "doctor", "demo", "completion"} <= {
        line.split()[0] for line in text if line.startswith("  ")
    }
    assert imported == "[]"


@pytest.mark.parametrize(
    "command", ["serve", "check", "config", "keys", "policies", "launch", "doctor", "completion"]
)
def test_every_command_explains_itself(home: Path, command: str) -> None:
    result = invoke(home, command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb", r"a\nb"),
        ("\u202eabc", r"\u202eabc"),
        ("\x9b31m", r"\x9b31m"),
        ("é 漢", "é 漢"),
    ],
)
def test_nothing_that_is_printed_steers_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert columns([(text, "x")]) == f"{shown}  x"


def test_names_of_files_and_keys_do_not_steer_the_terminal(home: Path) -> None:
    (home / "guard.yaml").write_text('"polic\\e[31mies": []')
    result = invoke(home, "check", "guard.yaml")
    assert "\x1b" not in result.output


def test_a_command_that_is_nearly_one() -> None:
    result = CliRunner().invoke(main, ["chek"])
    assert result.exit_code == 2
    assert "No such command 'chek' (did you mean 'check'?)." in result.output
