"""Gateways that share a service, as they are configured: their limits, their keys, their policies."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from anyio.to_thread import run_sync

from luthien_guard.cli.checks import shared
from luthien_guard.config.load import load_config
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.factory import application_of
from luthien_guard.gateway.key import Keys
from luthien_guard.gateway.keys import KeyFile
from luthien_guard.gateway.shared.sharing import Sharing
from luthien_guard.gateway.shared.urls import fleet_of, keys_of, shared_url
from luthien_guard.records import EventType
from luthien_guard.testing.provider import FakeProvider, serving
from tests.cli.processes import Upstream, run, served
from tests.gateway.harness import Gateway, eventually
from tests.gateway.shared.conftest import redis_url, told
from tests.sinks.proxy import proxied

PEPPER = {"LUTHIEN_PEPPER": "the same everywhere"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    with told(XDG_DATA_HOME=str(tmp_path / "data"), **PEPPER):
        yield tmp_path


@pytest.fixture
def provider() -> Iterator[str]:
    with serving(FakeProvider()) as url:
        yield url


def config(folder: Path, provider: str, **more: Any) -> Path:
    """JSON is YAML. A busy machine is no reason to count alone."""
    upstreams = [{"native": "openai.chat", "base_url": provider, "api_key": "sk-host"}]
    more["auth"] = {"mode": "client_key", "shared_timeout": 30.0, **more.get("auth", {})}
    path = folder / "guard.yaml"
    path.write_text(json.dumps({"policies": ["noop"], "upstreams": upstreams, **more}))
    return path


@contextmanager
def running(path: Path, count: int = 1) -> Generator[list[Gateway]]:
    """So many workers, each with an event loop of its own."""
    with ExitStack() as stack:
        found: list[Gateway] = []
        for _ in range(count):
            app = application_of(load_config(path), load=lambda: load_config(path))
            url = stack.enter_context(serving(app, lifespan=True))
            found.append(Gateway(url, app.state.guard, app))
        yield found


def keys(path: Path) -> Keys:
    return keys_of(load_config(path).config.auth)


def new(path: Path, **settings: Any) -> tuple[str, dict[str, str]]:
    """A key's id, and the header that carries it."""
    own = keys(path)
    key, text = own.create("me", settings=settings)
    own.close()
    return key.id, {"authorization": f"Bearer {text}"}


def chat(gateway: Gateway, headers: dict[str, str]) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return gateway.ask("/v1/chat/completions", body, headers=headers).status


def health(gateway: Gateway) -> Any:
    return gateway.ask("/health", method="GET").json


# -- limits ------------------------------------------------------------------------------------------------------------


def test_two_gateways_count_together(home: Path, provider: str, url: str) -> None:
    path = config(home, provider, auth={"shared": url})
    _, own = new(path, requests_per_minute=3)
    with running(path, 2) as gateways:
        found = [chat(each, own) for each in gateways * 4]
        assert sorted(found) == [200] * 3 + [429] * 5
        refused = gateways[0].ask("/v1/chat/completions", {}, headers=own)
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert [health(each)["status"] for each in gateways] == ["ok", "ok"]


def test_a_redis_that_records_use_is_shared(home: Path, provider: str, redis: str) -> None:
    path = config(home, provider, store="memory://", pubsub=redis)
    _, own = new(path, requests_per_minute=2)
    with running(path, 2) as gateways:
        assert sorted(chat(each, own) for each in gateways * 2) == [200, 200, 429, 429]


def test_workers_of_one_serve_count_together(home: Path) -> None:
    with serving(Upstream()) as url:
        path = config(home, url)
        made = run(home, "keys", "--config", str(path), "create", "--requests-per-minute", "4", **PEPPER)
        own = {"authorization": f"Bearer {made.stdout.strip()}"}
        with served(home, path, "--workers", "2", **PEPPER) as gateway:
            found = [gateway.chat(headers=own)[0] for _ in range(16)]
            assert sorted(found) == [200] * 4 + [429] * 12
            assert json.loads(gateway.get("/health")[1])["status"] == "ok"
    assert (home / "data" / "luthien-guard" / "shared.db").stat().st_mode & 0o077 == 0


def test_traffic_goes_on_when_the_service_dies(home: Path, provider: str, redis: str) -> None:
    with proxied(redis) as proxy:
        path = config(home, provider, auth={"shared": redis_url(proxy.url)})
        (_, own), (_, other) = (new(path, requests_per_minute=2) for _ in range(2))
        with running(path) as (gateway,):
            assert [chat(gateway, own) for _ in range(3)] == [200, 200, 429]
            proxy.close()
            eventually(lambda: health(gateway)["reasons"] == ["limits: what workers share is away"])
            assert health(gateway)["status"] == "degraded"
            assert chat(gateway, own) == 429  # that it has used them up is known
            assert [chat(gateway, other) for _ in range(3)] == [200, 200, 429]


def test_a_service_that_is_away_from_the_start_stops_nobody(home: Path, provider: str) -> None:
    shared = {"shared": "redis://127.0.0.1:1", "unshared": "refuse"}
    path = config(home, provider, auth=shared)
    (_, limited), (_, free) = new(path, requests_per_minute=2), new(path)
    with running(path) as (gateway,):
        eventually(lambda: health(gateway)["status"] == "degraded")
        assert [chat(gateway, each) for each in (limited, free)] == [503, 200]


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["postgresql", "redis"])
def far(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("database" if request.param == "postgresql" else "redis"))


def test_keys_of_all_machines(home: Path, provider: str, far: str) -> None:
    """Made and revoked on the command line, they count for gateways that run."""
    path = config(home, provider, auth={"keys": far, "shared": far})
    command = ("keys", "--config", str(path))
    with running(path, 2) as gateways:
        made = run(home, *command, "create", "--name", "ci", **PEPPER)
        text = made.stdout.strip()
        own = {"authorization": f"Bearer {text}"}
        assert [chat(each, own) for each in gateways] == [200, 200]
        id = text.split("_")[1]
        listed = run(home, *command, "list", **PEPPER).stdout
        assert id in listed
        assert text.split("_")[2] not in listed
        wrong = {"authorization": f"Bearer {text[:-1]}{'0' if text[-1] != '0' else '1'}"}
        assert [chat(each, wrong) for each in gateways] == [401, 401]
        assert run(home, *command, "revoke", id, **PEPPER).returncode == 0
        for each in gateways:
            eventually(lambda each=each: chat(each, own) == 401)
        assert run(home, *command, "revoke", id, **PEPPER).returncode == 2


def test_without_their_database_known_keys_go_on_and_others_wait(home: Path, provider: str, far: str) -> None:
    with proxied(far) as proxy:
        there = redis_url(proxy.url) if far.startswith("redis") else proxy.url
        path = config(home, provider, auth={"keys": there})
        (_, known), (_, unknown) = new(path), new(path)
        with running(path) as (gateway,):
            assert chat(gateway, known) == 200
            proxy.close()
            refused = gateway.ask("/v1/chat/completions", {}, headers=unknown)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert refused.json["error"]["code"] == "keys_unavailable"
            assert chat(gateway, known) == 200
            assert health(gateway)["reasons"] == ["keys: their database is away"]


def test_the_command_line_says_that_the_database_is_away(home: Path, provider: str) -> None:
    path = config(home, provider, auth={"keys": "postgresql://u:hunter2@127.0.0.1:1/db"})
    for arguments in (("create",), ("list",), ("revoke", "0123456789ab")):
        found = run(home, "keys", "--config", str(path), *arguments, **PEPPER)
        assert found.returncode == 2
        assert "postgresql://127.0.0.1:1/db" in found.stderr
        assert "hunter2" not in found.stderr + found.stdout
        assert "Traceback" not in found.stderr


class Kept(KeyFile):
    """Says how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.anyio
async def test_what_is_open_stays_open_until_the_end(home: Path, provider: str) -> None:
    sharing = Sharing(load_config(config(home, provider)), str)
    sharing.keys = kept = Kept(home / "keys.db")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sharing.run)
        for _ in range(20):
            await run_sync(str)
        assert kept.closed == 0
        tasks.cancel_scope.cancel()
    assert kept.closed == 1


def test_health_knows_of_the_keys_while_nobody_asks(home: Path, provider: str, far: str) -> None:
    with proxied(far) as proxy:
        there = redis_url(proxy.url) if far.startswith("redis") else proxy.url
        with running(config(home, provider, auth={"keys": there})) as (gateway,):
            proxy.speaking.clear()
            proxy.cut()
            eventually(lambda: health(gateway)["reasons"] == ["keys: their database is away"], 60)
            proxy.speaking.set()
            eventually(lambda: health(gateway)["status"] == "ok", 60)


# -- policies ----------------------------------------------------------------------------------------------------------


def test_the_version_stands_in_check_in_health_and_in_records(home: Path, provider: str) -> None:
    path = config(home, provider)
    _, own = new(path)
    with running(path) as (gateway,):
        version = gateway.guard.policy_version
        assert health(gateway)["policies"] == version
        assert f"version: {version}\n" in run(home, "check", str(path)).stdout
        assert chat(gateway, own) == 200
        (call,) = gateway.guard.recent_calls
        (received,) = [
            each for each in gateway.guard.records_of(call) if each.type is EventType.REQUEST_RECEIVED
        ]
        assert received.details["policy_version"] == version


@pytest.mark.anyio
async def test_health_and_the_doctor_say_when_workers_disagree(home: Path, provider: str, url: str) -> None:
    fleet, now = uuid4().hex, [0.0]
    path = config(home, provider, auth={"shared": url}, server={"fleet": fleet})
    workers = [
        Sharing(load_config(path), partial(str, version), clock=lambda: now[0]) for version in ("aaa", "bbb")
    ]
    assert "0 workers run" in (await run_sync(shared, load_config(path))).says
    for each in workers * 2:
        assert each.versions is not None
        await each.versions.announce()
    assert [list(each.reasons()) for each in workers] == [[], []]
    now[0] += 60.0
    assert [list(each.reasons()) for each in workers] == [["policies: 2 versions run"]] * 2
    found = await run_sync(shared, load_config(path))
    assert (found.state, found.says.rpartition(" answers, ")[2]) == (
        "warning",
        "2 workers run 2 versions: aaa, bbb",
    )
    for each in workers:
        assert each.shared is not None
        await run_sync(each.shared.close)


@pytest.mark.parametrize(("unshared", "state"), [("alone", "warning"), ("refuse", "failure")])
def test_the_doctor_finds_a_service_that_is_away(
    home: Path, provider: str, unshared: str, state: str
) -> None:
    auth = {"shared": "redis://u:hunter2@127.0.0.1:1", "unshared": unshared}
    found = shared(load_config(config(home, provider, auth=auth)))
    assert found.state == state
    assert "redis://127.0.0.1:1: " in found.says
    assert "hunter2" not in found.says


# -- what is wrong is told at the start --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ('shared: "redis://u:hunter2@:6379"', "guard.yaml:3: auth.shared: a URL like redis://"),
        ('shared: "postgresql://u:hunter2@h"', "guard.yaml:3: auth.shared: a URL like postgresql://"),
        (
            'shared: "amqp://u:hunter2@h"',
            "guard.yaml:3: auth.shared: 'amqp://u:***@h': memory://, sqlite:///path,",
        ),
        ("shared: nowhere", "guard.yaml:3: auth.shared: 'nowhere': memory://, sqlite:///path"),
        ('shared: "sqlite://x"', "guard.yaml:3: auth.shared: 'sqlite://x': sqlite:///relative.db"),
        (
            'keys: "mysql://u:hunter2@h/d"',
            "guard.yaml:3: auth.keys: 'mysql://u:***@h/d': a path, postgresql://",
        ),
        ('keys: "sqlite:///k.db"', "guard.yaml:3: auth.keys: 'sqlite:///k.db': a path, postgresql://"),
        ('keys: "redis://u:hunter2@h/x"', "guard.yaml:3: auth.keys: a URL like redis://"),
        ("keys_grace: -1", "guard.yaml:3: auth.keys_grace"),
        ("unshared: never", "guard.yaml:3: auth.unshared"),
    ],
)
def test_a_wrong_service_is_told_with_its_line(home: Path, auth: str, says: str) -> None:
    path = home / "guard.yaml"
    path.write_text(f"policies: [noop]\nauth:\n  {auth}\n")
    with pytest.raises(ConfigError) as caught:
        application_of(load_config(path))
    assert says in str(caught.value)
    found = run(home, "check", str(path))
    assert found.returncode == 2
    assert says in found.stderr
    assert found.stderr.count("guard.yaml") == 1
    assert "hunter2" not in str(caught.value) + found.stderr


def test_a_variable_is_named_as_the_place(home: Path) -> None:
    path = home / "guard.yaml"
    path.write_text("policies: [noop]\n")
    with pytest.raises(ConfigError, match=r"environment LUTHIEN_AUTH__SHARED: auth\.shared: "):
        application_of(load_config(path, environ={"LUTHIEN_AUTH__SHARED": "x"}))


@pytest.mark.parametrize(
    ("text", "place", "url"),
    [
        ("{}", "auth.shared", "memory://"),
        ("{store: 'postgresql://h/d'}", "store", "postgresql://h/d"),
        ("{store: 'postgres://h/d', pubsub: 'REDISS://r'}", "pubsub", "REDISS://r"),
        ("{store: 'postgresql://h/d', auth: {shared: 'memory://'}}", "auth.shared", "memory://"),
        ("{store: 'sqlite:///x.db', pubsub: 'postgresql://h/d'}", "auth.shared", "memory://"),
    ],
)
def test_what_is_shared_through_what(home: Path, text: str, place: str, url: str) -> None:
    path = home / "guard.yaml"
    path.write_text(text)
    found = shared_url(load_config(path).config)
    assert (".".join(map(str, found[0])), found[1]) == (place, url)


def test_two_gateways_on_one_machine_are_two_fleets(home: Path, provider: str, redis: str) -> None:
    (home / "other").mkdir()
    paths = [config(folder, provider, server={"workers": 2}) for folder in (home, home / "other")]
    assert [fleet_of(load_config(each)) for each in paths] == [str(each) for each in paths]
    named = config(home, provider, server={"workers": 2, "fleet": "mine"})
    assert fleet_of(load_config(named)) == "mine"
    assert fleet_of(load_config(config(home, provider, auth={"shared": redis}))) == "default"


def test_a_folder_of_any_name_can_be_shared(home: Path, provider: str) -> None:
    path = config(home, provider, server={"workers": 2})
    folder = home / "50% of # what?"
    with told(XDG_DATA_HOME=str(folder)):
        _, own = new(path, requests_per_minute=1)
        with running(path, 2) as gateways:
            assert [chat(each, own) for each in gateways] == [200, 429]
        assert (folder / "luthien-guard" / "shared.db").exists()


def test_keys_in_a_file_stay_what_they_were(home: Path, provider: str) -> None:
    path = config(home, provider, auth={"keys": str(home / "own.db")})
    found = keys(path)
    assert isinstance(found, KeyFile)
    assert found.path == home / "own.db"
