"""The gateway's own keys: made once, kept as an HMAC, valid until revoked or expired."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from luthien_guard.config.settings import AuthSettings, UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.exchange import RequestMetadata
from luthien_guard.gateway import create_app
from luthien_guard.gateway.auth import Anyone, Authenticator, Principal, Refusal
from luthien_guard.gateway.authentication import ClientKeys, Either, Passthrough, make_authenticator
from luthien_guard.gateway.key import parse_key
from luthien_guard.gateway.keys import KeyFile
from luthien_guard.gateway.rate import Rates
from luthien_guard.gateway.shared.memory import MemoryShared
from luthien_guard.guard import Guard
from luthien_guard.testing.provider import FakeProvider, serving

PEPPER = b"p" * 32


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.db", PEPPER)


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {key}".encode())]


def x_api_key(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-api-key", key.encode())]


async def code(auth: Authenticator, headers: list[tuple[bytes, bytes]]) -> str:
    """ "ok", or why not."""
    admitted = await auth.admit(headers)
    return admitted.code if isinstance(admitted, Refusal) else "ok"


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_key_has_256_bits_and_is_not_kept(file: KeyFile) -> None:
    key, text = file.create("me")
    assert parse_key(text) == key.id
    assert len(bytes.fromhex(text.split("_")[2])) == 32
    assert text.split("_")[2].encode() not in file.path.read_bytes()
    assert file.create("me")[1] != text


def test_only_this_user_can_read_file_and_pepper(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "new" / "keys.db")
    file.create("me")
    for path in (file.path, file.path.parent / "pepper"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


async def test_the_same_key_under_another_pepper_is_another(file: KeyFile) -> None:
    _, text = file.create("me")
    assert isinstance(await ClientKeys(file).check(text), Principal)
    assert isinstance(await ClientKeys(KeyFile(file.path, b"q" * 32)).check(text), Refusal)


def test_many_may_write_at_once(file: KeyFile) -> None:
    threads = [threading.Thread(target=file.create, args=(str(number),)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {key.name for key in file.all()} == {str(number) for number in range(8)}


def test_a_key_is_revoked_once(file: KeyFile) -> None:
    key, _ = file.create("me")
    assert file.revoke(key.id)
    assert not file.revoke(key.id)
    assert not file.revoke("nobody")
    assert [each.state(0.0) for each in file.all()] == ["revoked"]


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_text("not a database, but long enough to be taken for something else")
    with pytest.raises(ConfigError, match=r"keys\.db"):
        KeyFile(tmp_path / "keys.db", PEPPER).all()


def test_an_empty_pepper_is_none(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_bytes(b"")
    with pytest.raises(ConfigError, match="pepper"):
        KeyFile(tmp_path / "keys.db").create("me")


SPOILED = {
    "scopes": ["", "[", '"chat"', '{"*": 1}', "[1]", "null", "[" * 100_000],
    "settings": ["", "[]", "null", "{", "7"],
}


@pytest.mark.parametrize(
    ("column", "value"),
    [(column, value) for column, values in SPOILED.items() for value in values],
    ids=lambda each: each[:30],
)
async def test_a_row_that_cannot_be_read_is_nobody_s_key_and_the_others_open(
    file: KeyFile, column: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    (spoiled, its), (_, other) = file.create("spoiled"), file.create("other")
    with closing(sqlite3.connect(file.path)) as database, database:
        database.execute(f"UPDATE keys SET {column} = ? WHERE id = ?", (value, spoiled.id))
    auth = ClientKeys(file)
    assert [await code(auth, bearer(each)) for each in (its, other, its)] == [
        "invalid_api_key",
        "ok",
        "invalid_api_key",
    ]
    file.create("third")
    assert [await code(auth, bearer(each)) for each in (its, other)] == ["invalid_api_key", "ok"]
    assert [spoiled.id in each.getMessage() for each in caplog.records] == [True]
    assert file.revoke(spoiled.id)


async def test_a_key_whose_policies_are_no_name_opens_nothing(file: KeyFile) -> None:
    _, text = file.create("me", settings={"policies": ["strict"]})
    auth = ClientKeys(file, policy_sets=lambda: {"strict"})
    assert await code(auth, bearer(text)) == "policies_missing"


async def test_a_row_in_another_encoding_is_nobody_s_key(file: KeyFile) -> None:
    (spoiled, its), (_, other) = file.create("spoiled"), file.create("other")
    with closing(sqlite3.connect(file.path)) as database, database:
        database.execute("UPDATE keys SET name = CAST(x'4dfc' AS TEXT) WHERE id = ?", (spoiled.id,))
    auth = ClientKeys(file)
    assert [await code(auth, bearer(each)) for each in (its, other)] == ["invalid_api_key", "ok"]


# -- client_key --------------------------------------------------------------------------------------------------------


async def test_a_key_opens_by_either_header(file: KeyFile) -> None:
    key, text = file.create("me", scopes=("chat",))
    auth = ClientKeys(file)
    for headers in (bearer(text), x_api_key(text), [*bearer(text), *x_api_key(text)]):
        assert await auth.admit(headers) == Principal(
            key.id, forwards_credential=False, scopes=frozenset({"chat"})
        )


async def test_several_keys_are_valid_at_once(file: KeyFile) -> None:
    old, new = file.create("old"), file.create("new")
    auth = ClientKeys(file)
    assert [await code(auth, bearer(each[1])) for each in (old, new)] == ["ok", "ok"]
    file.revoke(old[0].id)
    assert [await code(auth, bearer(each[1])) for each in (old, new)] == ["invalid_api_key", "ok"]


async def test_a_new_key_counts_at_once(file: KeyFile) -> None:
    auth = ClientKeys(file)
    assert await code(auth, bearer("lg_" + "0" * 12 + "_" + "0" * 64)) == "invalid_api_key"
    _, text = file.create("late")
    assert await code(auth, bearer(text)) == "ok"


async def test_a_key_expires(file: KeyFile) -> None:
    key, text = file.create("me", seconds=100.0)
    assert key.expires_at is not None
    for now, expected in ((key.expires_at - 1, "ok"), (key.expires_at, "invalid_api_key")):
        moment = now
        assert await code(ClientKeys(file, now=lambda: moment), bearer(text)) == expected  # noqa: B023


async def test_what_is_no_key_opens_nothing(file: KeyFile) -> None:
    key, text = file.create("me")
    auth = ClientKeys(file)
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for each in (
        wrong,
        text + "0",
        text[:-1],
        text.upper(),
        f"lg_{key.id}_",
        "sk-ant-other",
        "é",
        "lg_",
        "*",
    ):
        assert await code(auth, bearer(each)) == "invalid_api_key", each
    assert await code(auth, [(b"authorization", b"Bearer " + text.encode() + b"\x00")]) == "invalid_api_key"


async def test_without_a_key_nobody_comes_in(file: KeyFile) -> None:
    assert await code(ClientKeys(file), [(b"host", b"x")]) == "missing_api_key"
    assert await code(ClientKeys(file), [(b"proxy-authorization", b"Bearer x")]) == "missing_api_key"


async def test_a_key_file_that_breaks_opens_nothing(file: KeyFile) -> None:
    _, text = file.create("me")
    auth = ClientKeys(file)
    assert await code(auth, bearer(text)) == "ok"
    file.path.write_bytes(b"broken" * 200)
    assert await code(auth, bearer(text)) == "keys_unavailable"
    file.path.unlink()
    assert await code(auth, bearer(text)) == "invalid_api_key"


async def test_a_changed_row_opens_nothing(file: KeyFile) -> None:
    """Who can write the file can make a key only with the pepper."""
    key, text = file.create("me")
    with sqlite3.connect(file.path) as database:
        database.execute("UPDATE keys SET mac = ? WHERE id = ?", (b"\x00" * 32, key.id))
    database.close()
    assert await code(ClientKeys(file), bearer(text)) == "invalid_api_key"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer a"), (b"x-api-key", b"b")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [(b"x-api-key", b"a"), (b"x-api-key", b"b")],
        [(b"x-api-key", b"a"), (b"api-key", b"b")],
    ],
)
@pytest.mark.parametrize("mode", ["client_key", "passthrough", "both"])
async def test_two_credentials_are_refused(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], mode: str
) -> None:
    settings = AuthSettings.model_validate({"mode": mode, "keys": str(tmp_path / "keys.db")})
    auth = make_authenticator(settings, loopback=True)
    assert await code(auth, headers) == "ambiguous_credentials"


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Bearer ", b"Basic dTpw", b"Bearer a b", b"Bearer a,Bearer b", b"a"]
)
async def test_an_authorization_of_another_kind_is_refused(file: KeyFile, value: bytes) -> None:
    found = await code(ClientKeys(file), [(b"authorization", value)])
    assert found in ("malformed_credentials", "invalid_api_key")


# -- the other modes ---------------------------------------------------------------------------------------------------


async def test_passthrough_lets_the_upstream_decide() -> None:
    assert await Passthrough().admit(x_api_key("sk-ant-1")) == Principal(
        forwards_credential=True, ambient=False
    )
    assert await code(Passthrough(), []) == "ok"
    assert await code(Passthrough(required=True), []) == "missing_api_key"


@pytest.mark.parametrize("key", ["lg_000000000000_" + "0" * 64, "lg_x"])
async def test_a_key_of_a_gateway_never_goes_to_a_provider(key: str) -> None:
    assert await code(Passthrough(), bearer(key)) == "invalid_api_key"


async def test_both_takes_either(file: KeyFile) -> None:
    key, text = file.create("me")
    auth = Either(ClientKeys(file), Passthrough(required=True))
    assert await auth.admit(bearer(text)) == Principal(
        key.id, forwards_credential=False, scopes=frozenset("*")
    )
    assert await auth.admit(bearer("sk-ant-1")) == Principal(
        forwards_credential=True, ambient=False, vouched_for=False
    )
    assert await code(auth, bearer("lg_x")) == "invalid_api_key"
    assert await code(auth, []) == "missing_api_key"


async def test_off_asks_nobody() -> None:
    auth = make_authenticator(AuthSettings(mode="off"), loopback=True)
    assert isinstance(auth, Anyone)


# -- how often ---------------------------------------------------------------------------------------------------------


async def test_a_key_may_ask_so_often_and_then_again(file: KeyFile) -> None:
    key, _ = file.create("me", settings={"requests_per_minute": 3})
    other, _ = file.create("other")
    now = [1000.0]
    rates = Rates(alone=MemoryShared(lambda: now[0]))
    assert [await rates.refusal(key) is None for _ in range(4)] == [True, True, True, False]
    assert [await rates.refusal(other) for _ in range(10)] == [None] * 10
    refusal = await rates.refusal(key)
    assert refusal is not None
    assert (refusal.status, refusal.retry_after) == (429, pytest.approx(20.0))
    now[0] += 20.0
    assert [await rates.refusal(key) is None for _ in range(2)] == [True, False]


@pytest.mark.parametrize("limit", [0, -1, True, "5", None, float("nan"), float("inf")])
async def test_what_is_no_number_of_requests_is_no_limit(file: KeyFile, limit: object) -> None:
    key, _ = file.create("me", settings={"requests_per_minute": limit})
    rates = Rates()
    assert [await rates.refusal(key) for _ in range(10)] == [None] * 10


def test_every_change_shows_in_the_stamp(file: KeyFile) -> None:
    """Also two within one tick of the file system's clock, which leave its size as it was."""
    keys = [file.create(str(number))[0] for number in range(30)]
    stamps = [file.stamp]
    for key in keys:
        file.revoke(key.id)
        stamps.append(file.stamp)
    assert len(set(stamps)) == len(stamps)


# -- policies of a key -------------------------------------------------------------------------------------------------

SETS = {"strict": [{"use": "default-limits", "config": {"forbidden_words": ["Hello"]}}]}


async def test_a_key_brings_policies_of_its_own(file: KeyFile) -> None:
    guard = Guard(["noop"], policy_sets=SETS)
    auth = ClientKeys(file, policy_sets=lambda: guard.policy_sets)
    answers: dict[str, bytes] = {}
    with serving(FakeProvider()) as url:
        upstream = UpstreamSettings(native="openai.chat", base_url=url, api_key="sk-host")
        for name in ("strict", None):
            settings = {} if name is None else {"policies": name}
            _, text = file.create("me", settings=settings)
            with serving(create_app(guard, [upstream], auth=auth), lifespan=True) as gateway:
                answers[str(name)] = _chat(gateway, text)
    assert b"Hello" not in answers["strict"]
    assert b"Hello" in answers["None"]


async def test_a_key_whose_policies_are_gone_opens_nothing(file: KeyFile) -> None:
    _, text = file.create("me", settings={"policies": "strict"})
    guard = Guard(["noop"], policy_sets=SETS)
    auth = ClientKeys(file, policy_sets=lambda: guard.policy_sets)
    assert await code(auth, bearer(text)) == "ok"
    guard.adopt(Guard(["noop"]))
    assert await code(auth, bearer(text)) == "policies_missing"


async def test_a_set_that_is_not_there_is_no_reason_to_run_without() -> None:
    guard = Guard(["noop"])
    metadata = RequestMetadata("c", 0.0, policy_set="strict")
    result = await guard.plane.decide_request(metadata, "openai.chat", b"{}")
    assert not result.allowed
    assert "strict" in (result.reason or "")
    assert result.value.answer is not None
    assert result.value.answer.status == 503


def _chat(url: str, key: str) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    with urllib.request.urlopen(
        urllib.request.Request(url + "/v1/chat/completions", body, headers)
    ) as answer:
        found: bytes = answer.read()
    return found
