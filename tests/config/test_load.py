"""File, environment and command line make one configuration; what is wrong is told with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.config import config_from_environment, guard_arguments, load_config, read_config
from luthien_guard.config.defaults import gateway_defaults
from luthien_guard.config.masking import MASK, masked
from luthien_guard.config.schema import json_schema
from luthien_guard.errors import ConfigError
from luthien_guard.guard import Guard
from luthien_guard.sinks.urls import file_of

ISSUE = """\
policies: [{use: noop}]
store: sqlite:///guard.db
auth: {mode: passthrough}            # client_key | passthrough | both | off (loopback only)
upstreams:                           # first match wins
  - {match: "claude-*", native: anthropic.messages, base_url: "https://api.anthropic.com", api_key: "${ANTHROPIC_API_KEY}"}
  - {match: "gpt-*", native: [openai.chat, openai.responses], base_url: "https://api.openai.com/v1", api_key: "${OPENAI_API_KEY}"}
  - {match: "demo-*", replay: ./recordings}
  - {match: "*", litellm: {}}
"""
KEYS = {"ANTHROPIC_API_KEY": "sk-ant-1", "OPENAI_API_KEY": "sk-1"}


def load(folder: Path, text: str, environ: dict[str, str] | None = None, **further: Any) -> Any:
    file = folder / "guard.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ=environ or {}, **further)


def problem(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, ISSUE, KEYS).config
    assert [each.api_key for each in config.upstreams] == ["sk-ant-1", "sk-1", None, None]
    assert config.upstreams[1].native == ["openai.chat", "openai.responses"]
    assert config.upstreams[3].litellm == {}
    assert config.auth.mode == "passthrough"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server: {prt: 1}", "guard.yaml:1: server.prt: unknown key (did you mean 'port'?)"),
        (
            "policies:\n  - use: noop\n    mod: shadow",
            "guard.yaml:3: policies.0.mod: unknown key (did you mean 'mode'?)",
        ),
        (
            "policies:\n  - use: noop\n    mode: shadw",
            "guard.yaml:3: policies.0.mode: Input should be 'enforce', 'shadow' or 'off'",
        ),
        (
            "upstreams:\n- match: x\n  nativ: openai.chat",
            "guard.yaml:3: upstreams.0.nativ: unknown key (did you mean 'native'?)",
        ),
        ("auth:\n  mode: none", "guard.yaml:2: auth.mode: Input should be"),
        (
            "server:\n\n  port: 70000",
            "guard.yaml:3: server.port: Input should be less than or equal to 65535",
        ),
        ("server:\n  port: many", "guard.yaml:2: server.port: Input should be a valid integer"),
        ("limits: {max_request_byte: 5}", "did you mean 'max_request_bytes'?"),
        ("limits:\n  idle_timeout: -1", "guard.yaml:2: limits.idle_timeout: Input should be greater than 0"),
        ("limits:\n  idle_timeout: .nan", "guard.yaml:2: limits.idle_timeout"),
        ("mode: enforced", "guard.yaml:1: mode: Input should be 'enforce' or 'observe'"),
        ("a: 1\na: 2", "guard.yaml:2: duplicate key 'a'"),
        ("server: {port: 1, port: 2}", "guard.yaml:1: duplicate key 'port'"),
        ("policies: {", "guard.yaml:1:"),
        ("- noop", "a mapping is expected"),
        ("", "a mapping is expected"),
        ("1: 2", "guard.yaml:1: key 1 is no text"),
        ("x: &a [1]\ny: *a", "guard.yaml:2: aliases"),
        ("store: !!python/object/apply:os.system [id]", "guard.yaml:1: tags"),
        ("policy: {clas: x}", 'guard.yaml:1: policy needs `class: "module:Class"`'),
        ("policy: {class: x}\npolicies: []", "`policy` and `policies` exclude each other"),
        ("policy:\n  class: x\n  confg: {}", "guard.yaml:3: unknown key (did you mean 'config'?)"),
        (
            'upstreams:\n  - litellm: {}\n    api_key: ""',
            "guard.yaml:3: upstreams.0.api_key: a credential is not empty",
        ),
        ("server:", "guard.yaml:1: server:"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    assert says in problem(tmp_path, text)


def test_off_is_a_word_here(tmp_path: Path) -> None:
    """YAML 1.1 reads it as false."""
    config = load(tmp_path, "auth: {mode: off}\npolicies: [{use: noop, mode: off}]").config
    assert config.auth.mode == "off"
    assert config.policies[0].mode == "off"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    told = problem(tmp_path, "mode: x\nserver: {port: -1}\nauht: {}").splitlines()
    assert len(told) == 3


def test_no_message_repeats_a_credential(tmp_path: Path) -> None:
    told = problem(tmp_path, 'upstreams:\n  - api_key: "sk-secret\\nx"\n    litellm: sk-secret')
    assert "sk-secret" not in told
    assert "sk-secret" not in repr(load(tmp_path, "upstreams: [{litellm: {}, api_key: sk-secret}]").config)


@pytest.mark.parametrize("path", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_config(tmp_path / path, environ={})


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "guard.yaml").write_bytes(b"mode: \xff")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6"):
        load_config(tmp_path / "guard.yaml", environ={})


# -- ${VARIABLES} ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "environ", "read"),
    [
        ("${A}", {"A": "1"}, "1"),
        ("x-${A}-${B}", {"A": "1", "B": "2"}, "x-1-2"),
        ("${A:-other}", {}, "other"),
        ("${A:-other}", {"A": ""}, "other"),
        ("${A:-}", {}, ""),
        ("$${A}", {"A": "1"}, "${A}"),
        ("${A}", {"A": "${B}", "B": "2"}, "${B}"),
        ("$A $ {A}", {"A": "1"}, "$A $ {A}"),
    ],
)
def test_variables_are_replaced_once(
    tmp_path: Path, written: str, environ: dict[str, str], read: str
) -> None:
    assert load(tmp_path, f"store: {json.dumps(written)}", environ).config.store == read


def test_variables_may_stand_for_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, 'server: {port: "${PORT:-9000}"}').config.server.port == 9000


def test_a_missing_variable_is_told_with_its_line(tmp_path: Path) -> None:
    assert problem(tmp_path, ISSUE, {"ANTHROPIC_API_KEY": "x"}) == (
        "guard.yaml:6: environment variable OPENAI_API_KEY is not set"
    )


@pytest.mark.parametrize("written", ["${}", "${1A}", "${A", "${A:=x}"])
def test_a_reference_that_is_none_is_told(tmp_path: Path, written: str) -> None:
    assert "guard.yaml:1: `${` is followed by no NAME" in problem(tmp_path, f"store: {json.dumps(written)}")


@pytest.mark.parametrize("written", ["${A:-${B}}", "x${A:-y${B:-z}}", "${A:-$${B}}"])
@pytest.mark.parametrize("environ", [{}, {"A": "1", "B": "2"}])
def test_a_reference_inside_of_another_is_told(tmp_path: Path, written: str, environ: dict[str, str]) -> None:
    assert problem(tmp_path, f"mode: enforce\nstore: {json.dumps(written)}", environ) == (
        "guard.yaml:2: the default of A holds a `${`: a reference does not stand in another"
    )


# -- LUTHIEN_SECTION__KEY ----------------------------------------------------------------------------------------------


def test_the_environment_stands_over_the_file(tmp_path: Path) -> None:
    environ = {
        "LUTHIEN_SERVER__PORT": "9100",
        "LUTHIEN_SERVER__METRICS": "false",
        "LUTHIEN_STORE": "memory://",
        "LUTHIEN_POLICIES__0__MODE": "shadow",
        "LUTHIEN_POLICIES__1": '{"use": "default-limits"}',
        "LUTHIEN_POLICIES__1__CONFIG__MAX_TOKENS": "5",
        "LUTHIEN_LIMITS__IDLE_TIMEOUT": "3.5",
        "LUTHIEN_UPSTREAMS__0__API_KEY": "from-outside",
        "LUTHIEN_SERVER__ALLOWED_HOSTS": "[a.example, b.example]",
    }
    text = 'policies: [noop]\nserver: {port: 1}\nupstreams: [{litellm: {}, api_key: "${NOT_SET}"}]'
    config = load(tmp_path, text, environ).config
    assert (config.server.port, config.server.metrics, config.store) == (9100, False, "memory://")
    assert config.policies[0].mode == "shadow"
    assert config.policies[1].config == {"max_tokens": 5}
    assert config.limits == {"idle_timeout": 3.5}
    assert config.upstreams[0].api_key == "from-outside"
    assert config.server.allowed_hosts == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("LUTHIEN_SERVR__PORT", "did you mean LUTHIEN_SERVER__PORT?"),
        (
            "LUTHIEN_SERVER__PROT",
            "environment LUTHIEN_SERVER__PROT: server.prot: unknown key (did you mean 'port'?)",
        ),
        ("LUTHIEN_DURABILTY", "did you mean LUTHIEN_DURABILITY?"),
        ("LUTHIEN_STORE__URL", "store has no parts"),
        ("LUTHIEN_UPSTREAMS__7__NAME", "nothing to set at upstreams.7.name"),
        ("LUTHIEN_POLICIES", "environment LUTHIEN_POLICIES: policies: a list is expected"),
    ],
)
def test_a_variable_that_means_nothing_is_an_error(tmp_path: Path, name: str, says: str) -> None:
    assert says in problem(tmp_path, "policies: []", {name: "x"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LUTHIEN_AUTH_MODE", "LUTHIEN_AUTH__MODE"),
        ("LUTHIEN_AUTHMODE", "LUTHIEN_AUTH__MODE"),
        ("LUTHIEN_SERVER_HOST", "LUTHIEN_SERVER__HOST"),
        ("LUTHIEN_SERVR_PORT", "LUTHIEN_SERVER__PORT"),
        ("LUTHIEN_POLICIES_1_MODE", "LUTHIEN_POLICIES__1__MODE"),
        ("LUTHIEN_POLICY_0_MODE", "LUTHIEN_POLICIES__0__MODE"),
        ("LUTHIEN_POLICY", "LUTHIEN_POLICIES"),
        ("LUTHIEN_POLICIES_0_CONFIG_FORBIDDEN_WORDS", "LUTHIEN_POLICIES__..."),
        ("LUTHIEN_POLICY_SETS_INTERNS", "LUTHIEN_POLICY_SETS__..."),
        ("LUTHIEN_LIMITS_HOOK_TIMEOUT", "LUTHIEN_LIMITS__HOOK_TIMEOUT"),
        ("LUTHIEN_UPSTREAMS_0_API_KEY", "LUTHIEN_UPSTREAMS__0__API_KEY"),
        ("LUTHIEN_STORE_URL", "LUTHIEN_STORE"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_an_error(tmp_path: Path, name: str, meant: str) -> None:
    assert problem(tmp_path, "policies: []", {name: "client_key"}) == (
        f"environment variable {name}: unknown setting (did you mean {meant}?)"
    )


def test_variables_of_others_and_of_our_own_are_left_alone(tmp_path: Path) -> None:
    others = (
        "PEPPER API_KEY LAST_GOOD ENVDIR RECORDINGS ATTACKS CLIENTS FLOOR STRICT WRITE_DOCS TEST_POSTGRES"
    )
    environ = {**{f"LUTHIEN_{name}": "x" for name in others.split()}, "OTHER__PORT": "1"}
    assert load(tmp_path, "policies: []", environ).config.policies == []


SETS = "policy_sets:\n  Interns: [noop]\n"


def test_a_variable_sets_what_the_file_spells_with_capitals(tmp_path: Path) -> None:
    environ = {"LUTHIEN_POLICY_SETS__INTERNS": "[default-limits]"}
    loaded = load(tmp_path, SETS, environ)
    assert loaded.config.policy_sets == {"Interns": ["default-limits"]}
    assert loaded.origins.of(("policy_sets", "Interns")) == "environment LUTHIEN_POLICY_SETS__INTERNS"
    environ["LUTHIEN_POLICY_SETS"] = '{"INTERNS": [noop], "ci": [noop]}'
    assert load(tmp_path, SETS, environ).config.policy_sets == {"INTERNS": ["default-limits"], "ci": ["noop"]}


@pytest.mark.parametrize("key", ["Word", "word"])
def test_a_variable_over_a_reference_needs_no_reference(tmp_path: Path, key: str) -> None:
    text = f'policies: [{{use: x, config: {{{key}: "${{NOT_SET}}"}}}}]'
    loaded = load(tmp_path, text, {"LUTHIEN_POLICIES__0__CONFIG__WORD": "${A}"})
    assert loaded.config.policies[0].config == {key: "${A}"}


def test_a_variable_that_could_mean_two_is_an_error(tmp_path: Path) -> None:
    said = problem(tmp_path, f"{SETS}  interns: [noop]", {"LUTHIEN_POLICY_SETS__INTERNS": "[]"})
    assert said == "environment variable LUTHIEN_POLICY_SETS__INTERNS: 'Interns' and 'interns' could be meant"
    said = problem(tmp_path, SETS, {"LUTHIEN_MODE": "enforce", "LUTHIEN_mode": "observe"})
    assert said == "environment variables LUTHIEN_MODE and LUTHIEN_mode set the same: keep one"


# -- origins -----------------------------------------------------------------------------------------------------------


def test_every_value_knows_where_it_comes_from(tmp_path: Path) -> None:
    options = {("server", "host"): ("--host", "::1")}
    loaded = load(
        tmp_path, "server:\n  port: 1\n  workers: 2", {"LUTHIEN_SERVER__WORKERS": "4"}, options=options
    )
    of = loaded.origins.of
    assert of(("server", "port")) == f"{tmp_path}/guard.yaml:2"
    assert of(("server", "workers")) == "environment LUTHIEN_SERVER__WORKERS"
    assert of(("server", "host")) == "--host"
    assert of(("server", "metrics")) == of(("mode",)) == "default"
    assert (loaded.config.server.host, loaded.config.server.workers) == ("::1", 4)


def test_a_value_of_the_command_line_that_is_wrong_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--port: server\.port"):
        load(tmp_path, "policies: []", options={("server", "port"): ("--port", 99999)})


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_the_older_form_of_one_policy_is_understood(tmp_path: Path) -> None:
    text = 'store: memory://\npolicy:\n  class: "luthien_guard.policies.default_limits:DefaultLimits"\n  config: {max_tokens: 7}'
    loaded = load(tmp_path, text)
    arguments = guard_arguments(loaded.config)
    assert arguments["policies"][0]["config"] == {"max_tokens": 7}
    assert loaded.origins.of(("policies", 0, "config", "max_tokens")).endswith("guard.yaml:4")


@pytest.mark.parametrize("config", ["[]", "no", '""', "0"])
def test_the_older_form_takes_a_mapping_or_nothing(tmp_path: Path, config: str) -> None:
    text = 'policy:\n  class: "luthien_guard.policies.default_limits:DefaultLimits"\n  config: '
    assert "guard.yaml:3: policies.0.config: a mapping is expected" in problem(tmp_path, text + config)
    assert load(tmp_path, text).config.policies[0].config == {}


def test_a_variable_that_names_no_file_is_no_file() -> None:
    assert config_from_environment({}) is None
    assert config_from_environment({"POLICY_CONFIG": "x.yaml"}) == Path("x.yaml")
    with pytest.raises(ConfigError, match="POLICY_CONFIG is empty"):
        config_from_environment({"POLICY_CONFIG": ""})


def test_a_guard_is_made_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(
        "policies: [noop, default-limits]\nlimits: {max_choices: 2, idle_timeout: 1.5}\non_block: error"
    )
    guard = Guard.from_config(file)
    assert guard.policies == ("noop", "default-limits")
    assert (guard.limits.max_choices, guard.limits.idle_timeout, guard.on_block) == (2, 1.5, "error")
    assert isinstance(read_config(file)["limits"].max_choices, int)


def test_secrets_are_masked() -> None:
    shown = masked(
        {
            "store": "postgresql://me:hunter2@db.example/x?sslpassword=hunter2&a=b",
            "auth": {"mode": "client_key", "keys": "/data/keys.db"},
            "policies": [
                {"use": "x", "config": {"api_key": "hunter2", "max_tokens": 5, "slack_token": "hunter2"}}
            ],
            "upstreams": [
                {"api_key": "hunter2", "headers": {"x": "hunter2"}, "litellm": {"aws_secret": "hunter2"}}
            ],
        }
    )
    assert "hunter2" not in json.dumps(shown)
    assert shown["auth"]["keys"] == "/data/keys.db"
    assert shown["policies"][0]["config"] == {"api_key": MASK, "max_tokens": 5, "slack_token": MASK}
    assert shown["store"] == f"postgresql://me:{MASK}@db.example/x?sslpassword={MASK}&a=b"


def test_the_schema_knows_every_key() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert {"policies", "policy", "upstreams", "auth", "server", "store"} <= set(schema["properties"])
    assert set(schema["$defs"]) == {"AuthSettings", "PolicySettings", "ServerSettings", "UpstreamSettings"}


def test_a_home_of_any_name_holds_the_default_store(tmp_path: Path) -> None:
    folder = tmp_path / "50% of # what?"
    store = gateway_defaults(has_file=False, environ={"XDG_DATA_HOME": str(folder)})["store"]
    assert file_of(store, "sqlite", "db") == folder / "luthien-guard" / "guard.db"
