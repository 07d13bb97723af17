"""Configurations that somebody got wrong in ways that nobody thought of: one error of ours, on one line, with its place."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from luthien_guard import ConfigError, Guard
from luthien_guard.cli.constructing import built
from luthien_guard.config import load_config
from luthien_guard.config.masking import masked
from luthien_guard.config.reload import Reloader
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.limits import Limits

#: A module of policies that fail in their own ways, not in ours.
FAILING = """
from luthien_guard import Policy
class Key(Policy):
    def __init__(self): self.words = {}["words"]
class Two(Policy):
    def __init__(self): raise RuntimeError("one\\ntwo")
class Ends(Policy):
    def __init__(self): raise SystemExit(3)
"""


def problem(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """The one line that is told, with the file as "guard.yaml"."""
    file = folder / "guard.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ=environ or {})
    told = str(caught.value).replace(f"{folder}/", "")
    assert told.isprintable(), told
    return told


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "!!bool abc",
        "!!timestamp abc",
        "!!int abc",
        "!!float abc",
        "!!null abc",
        "!!binary abc",
        "!!str enforce",
        "!!set {noop}",
        "!!omap [a: b]",
        "!!pairs [a: b]",
        "!!seq []",
        "!!map {}",
        "! enforce",
        "!foo x",
        "!!python/name:os.system",
        "!<tag:luthien,word> off",
    ],
)
def test_a_tag_is_refused_whatever_it_says(tmp_path: Path, value: str) -> None:
    assert problem(tmp_path, f"\nmode: {value}\n") == "guard.yaml:2: tags (!name) are not supported"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: 0x_", "guard.yaml:1: numbers that begin with 0 are read in two ways"),
        (f"data: {'9' * 5000}", "guard.yaml:1: Exceeds the limit"),
        ("mode: enforce\npolicies: [\0]", r"guard.yaml:2: the character '\x00'"),
        (f"policies: {'[' * 400}{']' * 400}", "guard.yaml:1: more than 64 lists"),
        (f"policies: {'[' * 3000}\n", "guard.yaml:1: more than 64 lists"),
        (f"a:\n  b: {'{a: ' * 70}{'}' * 70}", "guard.yaml:2: more than 64 lists"),
        ('"a\\nb": 1', r"guard.yaml:1: 'a\nb': unknown key"),
        ('limits: {"a\\nb": 1}', r"limits.'a\nb': unknown limit"),
    ],
)
def test_what_no_value_can_be_is_told_on_one_line(tmp_path: Path, text: str, says: str) -> None:
    assert says in problem(tmp_path, text)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000])
def test_a_name_that_no_file_has(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard.from_config(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "setting",
    [
        "store: {}",
        "data: {}",
        "pubsub: {}",
        "auth: {{keys: {}}}",
        "auth: {{shared: {}}}",
        "server: {{host: {}}}",
        "upstreams: [{{replay: {}}}]",
    ],
)
@pytest.mark.parametrize("value", [r'"a\0b"', r'"/a\n"'])
def test_no_path_host_or_url_holds_control_characters(tmp_path: Path, setting: str, value: str) -> None:
    assert "holds no control characters" in problem(tmp_path, setting.format(value))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    """A thread that waits there would keep a gateway whose file it has become from ending."""
    path = tmp_path / "guard.yaml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="a mapping is expected"):
        load_config(path, environ={})


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names")
def test_a_configuration_may_come_through_a_pipe() -> None:
    end, other = os.pipe()
    os.write(other, b"\xef\xbb\xbfpolicies:\r\n  [noop]")
    os.close(other)
    try:
        assert load_config(Path(f"/dev/fd/{end}"), environ={}).config.policies == ["noop"]
    finally:
        os.close(end)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="nothing is without end")
def test_a_device_without_end_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load_config(Path("/dev/zero"), environ={})


def test_a_folder_of_nobodys(tmp_path: Path) -> None:
    assert "guard.yaml:1: auth.keys: there is no such user" in problem(
        tmp_path, "auth: {keys: ~nobody-here/k}"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_request_bytes: 0.5", "guard.yaml:2: limits.max_request_bytes: a whole number is expected"),
        ("max_retries: 1.5", "limits.max_retries: a whole number is expected"),
        ("max_request_bytes: .inf", "finite"),
        ("max_request_bytes: .nan", "limits.max_request_bytes"),
        ("max_request_bytes: -1", "greater than 0"),
        ("max_request_bytes: 1.0e+400", "finite"),
    ],
)
def test_a_limit_that_would_become_another(tmp_path: Path, text: str, says: str) -> None:
    assert says in problem(tmp_path, f"limits:\n  {text}\n")


def test_a_whole_number_may_be_written_with_a_point(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("limits: {max_request_bytes: 1.0e+6, idle_timeout: 0.5}")
    assert Guard.from_config(file).limits == Limits(max_request_bytes=1_000_000, idle_timeout=0.5)


@pytest.mark.parametrize(
    "headers", ['{"a b": c}', '{"": c}', '{a: "b\\nc: d"}', '{a: " b"}', '{a: "b\\r"}', '{"a:": b}']
)
def test_headers_that_http_cannot_carry(tmp_path: Path, headers: str) -> None:
    assert "guard.yaml:1: upstreams.0.headers" in problem(
        tmp_path, f"upstreams: [{{litellm: {{}}, headers: {headers}}}]"
    )


@pytest.mark.parametrize("source", ["foo", "header:", "header:a b", "header:漢", "body:", "body:a..b", ""])
def test_sessions_are_named_by_headers_and_fields(tmp_path: Path, source: str) -> None:
    told = problem(tmp_path, f'session_from: ["{source}"]')
    assert "guard.yaml:1: session_from.0" in told
    assert 'neither "header:NAME" nor "body:PATH"' in told


# -- the environment ---------------------------------------------------------------------------------------------------

POLICY = "policies: [{use: uppercase-nth-word}]"


@pytest.mark.parametrize(
    ("text", "name", "value", "says"),
    [
        ("policies: noop", "POLICIES__0__CONFIG__N", "3", "there is nothing to set at policies.0.config.n"),
        ("auth: client_key", "AUTH__MODE__X", "1", "there is nothing to set at auth.mode.x"),
        ("auth: {mode: off}", "AUTH__MODE__X", "1", "there is nothing to set at auth.mode.x"),
        ("server: 5", "SERVER__PORT", "1", "there is nothing to set at server.port"),
        (POLICY, "POLICIES__X__USE", "noop", "there is nothing to set"),
        (POLICY, f"POLICIES__{'9' * 5000}__USE", "noop", "there is nothing to set"),
        (POLICY, "POLICIES__0__CONFIG__N", "010", "numbers that begin with 0 are read in two ways"),
        (POLICY, "POLICIES__0__CONFIG__N", "[!!bool x]", "tags (!name) are not supported"),
        (POLICY, "POLICIES__0__CONFIG", "{n: no}", "no is a word to some who read YAML"),
        (POLICY, "POLICIES__٠__USE", "noop", "there is nothing to set at policies.٠.use"),
        (POLICY, "POLICIES__0__CONFIG__N", "[", "expected the node content"),
        (POLICY, "POLICIES__0__CONFIG", '{"n": 2, "n": 3}', "duplicate key 'n'"),
        (POLICY, "POLICIES__0__CONFIG", "{1: 2}", "key 1 is no text"),
        (POLICY, "POLICIES", "[" * 3000, "more than 64 lists"),
        (POLICY, "POLICIES", "[\x01]", r"the character '\x01'"),
    ],
)
def test_a_variable_is_wrong_and_named(tmp_path: Path, text: str, name: str, value: str, says: str) -> None:
    told = problem(tmp_path, text, {f"LUTHIEN_{name}": value})
    assert told.startswith(f"environment variable LUTHIEN_{name}: ")
    assert says in told


# -- what is found when things are made of it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policies: [nop]", "did you mean 'noop'?"),
        ("policies: [{use: default-limits, config: {max_tokens: 0}}]", "max_tokens is 0"),
        ("policy_sets: {x: [nop]}", "did you mean 'noop'?"),
        ("store: mysql://h/d", "nothing is installed for 'mysql'"),
        ("store: foo", "is no URL"),
        ("store: memory://\npubsub: foo", "is no URL"),
        ("tracing: foo", "nothing is installed for 'foo'"),
        ("session_from: [foo]", "session_from"),
    ],
)
def test_the_file_is_named_once(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Guard.from_config(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).count(str(file)) == 1
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "mode: enforce\nstore: guard.db",
            "guard.yaml:2: store: 'guard.db' is no URL: one like sqlite://... is",
        ),
        ("store: memory://\npubsub: foo", "guard.yaml:2: pubsub: 'foo' is no URL"),
        ("pubsub: foo", "guard.yaml:1: pubsub: 'foo' is no URL"),
        ("pubsub: kafka://x", "guard.yaml:1: pubsub: nothing is installed for 'kafka'"),
        ("\ntracing: foo", "guard.yaml:2: tracing: nothing is installed for 'foo'"),
        (
            "upstreams:\n- {native: openai.chat}\n- {match: x}",
            "guard.yaml:3: upstreams.1: upstream 2: exactly one of",
        ),
        ("upstreams:\n- {native: openai.chats}", "guard.yaml:2: upstreams.0: "),
    ],
)
def test_what_is_found_late_is_told_with_its_line_too(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        built(load_config(file, environ={}))
    assert str(caught.value).startswith(f"{tmp_path}/{says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("policies: noop", "policies: a list is expected"),
        ("policies: [[noop]]", "policies.0: the name of a policy is expected, or a mapping with `use`"),
        ("policies: [{config: {}}]", "policies.0.use: it is missing"),
        (
            "policy_sets: {a: [5]}",
            "policy_sets.a.0: the name of a policy is expected, or a mapping with `use`",
        ),
        ("policies: [{use: noop, config: 5}]", "policies.0.config: a mapping is expected"),
        ("auth: client_key", "auth: a mapping is expected"),
    ],
)
def test_what_is_expected_is_told_in_the_words_of_the_file(tmp_path: Path, text: str, says: str) -> None:
    assert problem(tmp_path, text) == f"guard.yaml:1: {says}"


LIMITS = "\n  - noop\n  - use: default-limits\n    config:\n      "


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        (f"policies:{LIMITS}max_token: 5", {}, "guard.yaml:5: policies.1.config.max_token: configuration of"),
        (f"policies:{LIMITS}forbidden_words: [5]", {}, "guard.yaml:4: policies.1.config: configuration of"),
        ("policies:\n- noop\n- nop", {}, "guard.yaml:3: policies.1.use: no policy 'nop'"),
        ("policies:\n- {use: 'os:path'}\n", {}, "guard.yaml:2: policies.0.use: policy 'os:path'"),
        (
            f"policies: [noop]\npolicy_sets:\n ci:{LIMITS}max_tokens: 0",
            {},
            "yaml:6: policy_sets.ci.1.config: ",
        ),
        (
            "policies: [default-limits]",
            {"LUTHIEN_POLICIES__0__CONFIG": "{max_tokens: 0}"},
            "environment LUTHIEN_POLICIES__0__CONFIG: policies.0.config: configuration of policy",
        ),
        (
            "policies: ['hostile_hooks:Hears']",
            {},
            "guard.yaml:1: policies.0: Hears.on_error: there is no argument 'eror'",
        ),
        (
            "policies: [noop, 'hostile_hooks:Yields']",
            {},
            "guard.yaml:1: policies.1: Yields.on_error has a `yield`",
        ),
    ],
)
async def test_a_policy_that_cannot_be_made_is_told_with_its_line(
    tmp_path: Path, hooks: None, text: str, environ: dict[str, str], says: str
) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(text)
    loaded = load_config(file, environ=environ)
    with pytest.raises(ConfigError) as caught:
        built(loaded)
    assert says in str(caught.value)
    reloader = Reloader(Guard(), file, load=lambda: loaded)
    assert not await reloader.reload()
    assert str(reloader.status.error).removeprefix(f"{file}: ") == str(caught.value)
    if not environ:
        with pytest.raises(ConfigError) as again:
            Guard.from_config(file)
        assert str(again.value) == str(caught.value)


HOOKS = """
from luthien_guard import Policy, hookimpl

class Hears(Policy):
    @hookimpl
    def on_error(self, eror): ...

class Yields(Policy):
    @hookimpl
    def on_error(self, error):
        yield
"""


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "hostile_hooks.py").write_text(HOOKS)
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("hostile_hooks", None)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://h:99999999",
        "http://h:x",
        "http://h:0",
        "http://a b/v1",
        "http://u:hunter2@[::1",
        "http://u:hunter2@h:99999999/v1",
        "https://h/v1?api_key=hunter2",
        "//h",
    ],
)
def test_a_url_that_nobody_can_ask(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url is") as caught:
        Upstreams([UpstreamSettings(native="openai.chat", base_url=url)], Limits())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/d",
        "redis://:hunter2@h",
        "postgresql://u:hun/hunter2@h",
        "x://u:a@hunter2@h",
        "postgres//u:hunter2@h",
        "postgresql:/u:hunter2@h",
        "postgresql:u:hunter2@h",
        "u:hunter2@h/d",
        ":hunter2@h",
    ],
)
def test_a_password_is_one_however_it_is_written(url: str) -> None:
    assert "hunter2" not in masked(url)


@pytest.mark.parametrize(
    "text", ["sqlite:///a@b/c.db", "http://h:80/x", "mail me: a@b.example", "x@y", "a:b c@d"]
)
def test_what_is_no_password_is_shown(text: str) -> None:
    assert masked(text) == text


# -- reloading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "hostile_policies.py").write_text(FAILING)
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("hostile_policies", None)


@pytest.mark.parametrize(
    "text",
    [
        "mode: !!bool abc",
        "data: !!timestamp abc",
        "policies: ['hostile_policies:Key']",
        "policies: [\0]",
        "policies: ['hostile_policies:Two']",
        "policies: ['hostile_policies:Ends']",
    ],
)
async def test_no_file_ends_the_reloader(
    tmp_path: Path, failing: None, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("policies: [noop]")
    guard = Guard.from_config(file)
    reloader = Reloader(guard, file, interval=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reloader.run)
        file.write_text(text)
        with anyio.fail_after(20), caplog.at_level(logging.ERROR, "luthien_guard"):
            while reloader.status.error is None:  # noqa: ASYNC110 -- a file's watcher has no event to tell
                await anyio.sleep(0.005)
        assert reloader.status.error.isprintable()
        assert reloader.status.error.startswith(str(file))
        assert [each.getMessage() for each in caplog.records] == [
            f"configuration not reloaded, the one before it stays: {reloader.status.error}"
        ]
        assert guard.policies == ("noop",)
        file.write_text("policies: [noop, uppercase-nth-word]")
        with anyio.fail_after(20):
            while guard.policies == ("noop",):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        tasks.cancel_scope.cancel()


async def test_who_cannot_keep_what_was_reloaded_does_not_undo_it(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("policies: [noop]")
    guard = Guard.from_config(file)
    reloader = Reloader(guard, file, accepted=lambda _: (tmp_path / "none" / "x").write_text(""))
    file.write_text("policies: []")
    assert await reloader.reload()
    assert guard.policies == ()


def test_whoever_runs_it_sees_one_line(tmp_path: Path) -> None:
    (tmp_path / "guard.yaml").write_text("mode: !!bool abc")
    code = "from luthien_guard.cli import main; main(prog_name='luthien-guard')"
    ended = subprocess.run(
        [sys.executable, "-c", code, "check", "guard.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "error: guard.yaml:1: tags (!name) are not supported\n"


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_what_ends_a_line_for_some_readers_ends_no_comment(tmp_path: Path, character: str) -> None:
    told = problem(tmp_path, f"policies: [noop]\n# nothing to see{character}mode: observe\n")
    assert told.startswith(f"guard.yaml:2: the character {character!a} ends a line for some who read YAML")
    file = tmp_path / "guard.yaml"
    file.write_text(
        f'policies: [{{use: default-limits, config: {{forbidden_words: ["{character!a}"]}}}}]'.replace(
            "'", ""
        )
    )
    (policy,) = load_config(file, environ={}).config.policies
    assert policy.config == {"forbidden_words": [character]}
