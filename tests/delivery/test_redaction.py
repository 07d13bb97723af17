"""Canary secrets in every place where one can stand: none is found in anything that a sink gets."""

from __future__ import annotations

import json
import logging
import re
import struct
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from luthien_guard import Abort, ChatRequest, Guard, GuardMiddleware, Outcome, Policy, PolicyContext, hookimpl
from luthien_guard.callers import Callers, pepper_of
from luthien_guard.delivery import Delivery
from luthien_guard.delivery.credentials import secrets_of_settings
from luthien_guard.delivery.named import secrets_of_request
from luthien_guard.delivery.redaction import MASK, Redactor
from luthien_guard.policies.tool_call_judge import ToolCallJudge
from luthien_guard.records import EventType
from luthien_guard.testing import Script, run
from tests.asgi_drive import ask, replay
from tests.delivery.stores import ListStore

pytestmark = pytest.mark.anyio

KEY = "canary-0123456789-abcdef"
PLACES = [
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization",
    "prompt", "system", "tool", "argument", "metadata", "user", "unknown field", "key of an object",
    "answer", "answer's unknown field", "answer's error", "exception", "policy record", "policy reason",
    "policy error", "url of the prompt", "name of a fact",
]  # fmt: skip
HEADERS = PLACES[:5]


class Talks(Policy):
    def __init__(self, place: str) -> None:
        self.place = place

    @hookimpl
    def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> Abort | None:
        ctx.record("saw", deep={"list": [KEY if self.place == "policy record" else ""]})
        if self.place == "name of a fact":
            ctx.record("saw", **{KEY: 1})
        if self.place == "policy error":
            raise ValueError(f"bad {KEY}")
        return Abort(f"because {KEY}") if self.place == "policy reason" else None


def request_with(place: str) -> bytes:
    def at(name: str) -> str:
        return KEY if place == name else "x"

    body: dict[str, Any] = {
        "model": "m",
        "messages": [
            {"role": "system", "content": at("system")},
            {"role": "user", "content": [
                {"type": "text", "text": f"say {at('prompt')} now"},
                {"type": "image_url", "image_url": {"url": f"https://h/?k={at('url of the prompt')}"}},
            ]},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {
                "name": "f", "arguments": json.dumps({"k": at("argument")})}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": at("tool")}}],
        "metadata": {"a": at("metadata"), at("key of an object"): "v"},
        "user": at("user"),
        "brand_new": at("unknown field"),
    }  # fmt: skip
    return json.dumps(body).encode()


def upstream(place: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if place == "exception":
            raise RuntimeError(f"cannot reach https://{KEY}@host")
        message = {"role": "assistant", "content": KEY if place == "answer" else "x"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        if place == "answer's unknown field":
            body["debug"] = {"sent": [KEY]}
        if place == "answer's error":
            body = {"error": {"message": f"bad key {KEY}", "type": "auth", "code": KEY}}
        status = 401 if place == "answer's error" else 200
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    return app


@pytest.mark.parametrize("place", PLACES)
async def test_a_credential_is_in_no_record_and_in_no_log(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = ListStore(path=tmp_path / "s")
    guard = Guard([Talks(place)], store=store)
    app = GuardMiddleware(upstream(place), guard=guard)
    header = place.encode() if place in HEADERS else b"authorization"
    value = f"Bearer {KEY}".encode() if header.endswith(b"authorization") else KEY.encode()
    async with guard:
        with pytest.raises(RuntimeError) if place == "exception" else nullcontext():
            await ask(app, "/v1/chat/completions", request_with(place), headers=[(header, value)])
    assert store.kept
    for row in store.kept.values():
        assert KEY not in row.payload, (place, row)
    for call_id in guard.recent_calls:
        assert KEY not in repr(guard.records_of(call_id))
    assert KEY not in caplog.text
    stored = "".join(row.payload for row in store.kept.values())
    if place not in (*HEADERS, "exception", "answer's error", "answer's unknown field"):
        assert MASK in stored, "the place was on record"
    received = next(row for row in store.kept.values() if row.event_type == "request.received").details
    assert received["api_key_hash"] == Callers(pepper=lambda: pepper_of(tmp_path / "s-guard")).hashed(
        KEY.encode()
    )


@pytest.mark.parametrize(
    "named",
    [
        {"mcp_servers": [{"type": "url", "url": "https://x", "name": "s", "authorization_token": KEY}]},
        {"tools": [{"type": "mcp", "server_url": "https://x", "authorization": f"Bearer {KEY}"}]},
        {"tools": [{"type": "mcp", "server_url": "https://x", "headers": {"x-tenant": KEY}}]},
        {"api_key": KEY},
        {"extra_body": {"extra_headers": {"authorization": f"Bearer {KEY}"}}},
        {"fallbacks": [{"model": "n", "api_key": KEY}]},
    ],
    ids=lambda named: next(iter(named)),
)
async def test_a_credential_that_only_the_request_names_is_in_no_record(named: dict[str, Any]) -> None:
    """The tokens of the servers that a provider calls stand in the body, and the model may say them again."""
    guard = Guard(["noop"], store="memory://")
    app = GuardMiddleware(upstream("answer"), guard=guard)
    async with guard:
        body = {"model": "m", "messages": [], **named}
        await ask(app, "/v1/chat/completions", json.dumps(body).encode())
    (call_id,) = guard.recent_calls
    said = repr(guard.records_of(call_id))
    assert MASK in said
    assert KEY not in said


def test_what_a_request_names_is_looked_for_within_bounds() -> None:
    many = {f"api_key_{at}": f"{at:08}" for at in range(10_000)}
    assert len(secrets_of_request(many)) <= 32
    assert secrets_of_request({"api_key": "a " * 100_000}) == []
    assert (
        secrets_of_request({"tools": [{"function": {"parameters": {"api_key": KEY}}}], "messages": [many]})
        == []
    )


class Counted(dict[str, Any]):
    """Says how much of it was looked at."""

    looked = 0

    def items(self) -> Any:
        for each in super().items():
            self.looked += 1
            yield each


@pytest.mark.parametrize("name", ["further", "extra_headers"])
def test_a_request_is_not_searched_for_as_long_as_its_sender_likes(name: str) -> None:
    """The search of a large one took a second for each megabyte, in which nobody else was served."""
    many = Counted((f"x-{at}", {}) for at in range(100_000))
    assert secrets_of_request({name: many}) == []
    assert 0 < many.looked < 30_000


def test_of_thousands_of_credentials_those_at_the_ends_are_known() -> None:
    sent = [(b"authorization", b"Bearer %d" % at) for at in range(5000)]
    headers = [(b"proxy-authorization", b"Basic first"), *sent, (b"x-api-key", b"last")]
    secrets = Callers().metadata(headers).secrets
    assert len(secrets) <= 32
    assert {"first", "last"} <= set(secrets)


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_credential_that_streams_in_pieces_is_in_no_record(
    size: int, captured: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = ListStore(path=tmp_path / "s")
    guard = Guard([Talks("")], store=store, capture_chunks=captured)
    said = f"your key is {KEY}, is it not?"
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    frames = [{"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
               "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]  # fmt: skip
    body = (
        b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames) + b"data: [DONE]\n\n"
    )
    app = GuardMiddleware(replay(body, status=200, content_type="text/event-stream"), guard=guard)
    request = b'{"model":"m","stream":true,"messages":[]}'
    async with guard:
        await ask(app, "/v1/chat/completions", request, headers=[(b"x-api-key", KEY.encode())])
    stored = "".join(row.payload for row in store.kept.values())
    assert KEY not in stored
    assert KEY not in caplog.text
    assert f"your key is {MASK}, is it not?" in stored
    chunks = [row.details for row in store.kept.values() if row.event_type == "response.chunks"]
    assert len(chunks) == captured
    heard = "".join(re.findall(r'"content": "([^"]*)"', "".join(each["body_text"] for each in chunks)))
    assert KEY not in heard, "nor can it be put together again"


PIECES = [KEY[at : at + 5] for at in range(0, len(KEY), 5)]


def chunk(*texts: str, **more: Any) -> dict[str, Any]:
    choices = [{"index": index, "delta": {"content": text}} for index, text in enumerate(texts) if text]
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        **more,
    }


def frames_of(chunks: list[dict[str, Any]], end: str = "\n") -> str:
    return (
        "".join(f"data: {json.dumps(each, ensure_ascii=False)}{end}{end}" for each in chunks)
        + f"data: [DONE]{end}{end}"
    )


def logprobs(pieces: list[str]) -> dict[str, Any]:
    return {"content": [{"token": piece, "logprob": -1, "top_logprobs": []} for piece in pieces]}


def delta(piece: str, item: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": item, "output_index": 0, "delta": piece}


SPLIT = {
    "one choice": frames_of([chunk(piece) for piece in PIECES]),
    "lines end in CR": frames_of([chunk(piece) for piece in PIECES], "\r"),
    "lines end in CR LF": frames_of([chunk(piece) for piece in PIECES], "\r\n"),
    "choices in turns": frames_of([each for piece in PIECES for each in (chunk(piece), chunk("", "other"))]),
    "items in turns": frames_of([each for piece in PIECES for each in (delta(piece, "a"), delta("other", "b"))]),
    "a line separator in each frame": frames_of([chunk(piece, note="\u2028") for piece in PIECES]),
    "a next line in each frame": frames_of([chunk(piece, note="\x85") for piece in PIECES]),
    "two lines of data": "".join(
        f"event: x\ndata: {json.dumps(chunk(piece), indent=1)}\n\n".replace("\n ", "\ndata: ").replace("\n}", "\ndata: }")
        for piece in PIECES
    ),
    "tokens of a stream": frames_of([chunk("x", logprobs=logprobs(PIECES[at : at + 2])) for at in range(0, 5, 2)]),
    "tokens of a body": json.dumps({"choices": [{"message": {"content": KEY}, "logprobs": logprobs(PIECES)}]}),
    "no JSON": "".join(f"data: {piece}\n\n" for piece in PIECES),
}  # fmt: skip


@pytest.mark.parametrize("body", SPLIT.values(), ids=SPLIT)
def test_captured_pieces_that_hold_a_key_together_are_kept_without_text(body: str) -> None:
    delivery = Delivery([], redact=Redactor([KEY]))
    delivery.recorder("c")(EventType.RESPONSE_CHUNKS, body_text=body, chunk_lens=[len(body)])
    (found,) = delivery.latest.records("c")
    assert found.details["body_text"] == ""
    assert found.details["degraded"]
    assert found.details["chunk_lens"] == [len(body)]


@pytest.mark.parametrize(
    "body",
    [
        frames_of([chunk("a", "b", note=KEY), chunk("c", "d", note=KEY)]),
        json.dumps({"choices": [{"logprobs": logprobs(["a", KEY, "b"])}]}),
        frames_of([chunk(KEY[:5]), chunk("", KEY[5:])]),
    ],
    ids=["a field", "a token", "two choices"],
)
def test_captured_pieces_that_hold_no_key_together_are_kept(body: str) -> None:
    delivery = Delivery([], redact=Redactor([KEY]))
    delivery.recorder("c")(EventType.RESPONSE_CHUNKS, body_text=body)
    (found,) = delivery.latest.records("c")
    assert found.details == {"body_text": body.replace(KEY, MASK)}


@pytest.mark.parametrize("cut", range(440, 501, 15))
@pytest.mark.parametrize("status", [200, 401])
async def test_a_reason_that_is_cut_holds_no_part_of_a_key(status: int, cut: int) -> None:
    shaped = "AIza" + "x1" * 17 + "y"  # half of it has not its shape
    problem = {"message": f"{'x' * (cut - 8)} {shaped} {KEY}", "type": "a", "code": "b"}
    body, kind = json.dumps({"error": problem}), "application/json"
    if status == 200:
        body, kind = f"data: {body}\n\n", "text/event-stream"
    heard: list[str] = []
    guard = Guard([Hears(heard)])
    app = GuardMiddleware(replay(body.encode(), status=status, content_type=kind), guard=guard)
    await ask(app, "/v1/chat/completions", request_with(""), headers=[(b"x-api-key", KEY.encode())])
    said = str(guard.records_of(guard.recent_calls[-1]))
    assert MASK[:-1] in said
    assert [each for each in heard if each], "and who hears of the end"
    for secret in (KEY, shaped):
        assert secret[: len(secret) // 2 + 4] not in said + str(heard)
    assert KEY[:8] not in said + str(heard)


class Hears(Policy):
    def __init__(self, heard: list[str]) -> None:
        self._heard = (heard.append,)

    @hookimpl
    def on_content_chunk(self) -> None:
        """For an answer that nobody looks at has no reason."""

    @hookimpl
    def on_exchange_closed(self, outcome: Outcome) -> None:
        self._heard[0](outcome.reason or "")


@pytest.mark.parametrize("key", [KEY, "sk-proj-" + "Zz9" * 12])
async def test_the_key_of_a_judge_is_in_no_record_and_in_no_outcome(key: str) -> None:
    async def refused(messages: Any, *, model: str, **params: Any) -> str:
        raise PermissionError(f"Invalid API key: {params['api_key']}")

    judge = {"use": "tool-call-judge", "config": {"model": "m", "api_key": key}}
    for policies in (judge, ToolCallJudge(model="m", api_key=key)):
        runs = await run(policies, Script().tool_call("f"), judge=refused, cuts="whole", streamed=(True,))
        for each in runs:
            assert "Invalid API key" in str(each.records)
            assert "Invalid API key" in str(each.outcome.reason)
            assert key not in str(each.records)
            assert key not in str(each.outcome)


def test_the_keys_of_policies_that_come_later_are_known_too() -> None:
    guard = Guard()
    guard.adopt(Guard(policy_sets={"team": [ToolCallJudge(model="m", api_key=KEY)]}))
    assert guard.redactor(f"bad {KEY}") == f"bad {MASK}"


def test_settings_say_by_their_names_what_is_secret() -> None:
    @dataclass
    class Options:
        client_secret: str
        max_token: str

    settings = {
        "api_key": "one-0123", "model": "gpt-4o-mini", "stop_token": "<|endoftext|>",
        "secret_words": ["password"], "fallbacks": [{"aws_secret_access_key": "two-0123"}],
        "extra_headers": {"x-custom": "three-0123", "Authorization": "ApiKey four-0123", "accept": "application/json"},
        "options": Options("five-0123", "six-0123"), "credentials": {"anything": "seven-0123"},
        "token": "Bearer eight-0123",
    }  # fmt: skip
    settings["itself"] = settings
    assert set(secrets_of_settings(settings)) == {
        "one-0123", "two-0123", "three-0123", "ApiKey four-0123", "four-0123", "five-0123", "seven-0123",
        "Bearer eight-0123", "eight-0123",
    }  # fmt: skip


class Anything:
    """Has every attribute that it is asked for, like the stubs of remote services."""

    def __getattr__(self, name: str) -> Any:
        return Anything()

    def __call__(self) -> Any:
        return Anything()


def test_settings_of_any_kind_come_to_an_end() -> None:
    settings = {
        "service": Anything(), "kind": SecretStr, "password": SecretStr("one-0123"), "other": SecretStr("two-0123"),
    }  # fmt: skip
    assert set(secrets_of_settings(settings)) == {"one-0123", "two-0123"}


def test_what_looks_like_a_key_is_one() -> None:
    redact = Redactor()
    for text in (
        "sk-ant-api03-" + "a1" * 30,
        "sk-proj-" + "Zz9" * 12,
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a" * 36,
        "xoxb-1234567890-abcdef",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    ):
        assert redact(f"the key is {text}, you see") == f"the key is {MASK}, you see"
    for text in ("ask-me task-force risk-free", "the ghost of gh_1", "eyJ", "lg_", "sk-8", ""):
        assert redact(text) == text


def test_a_secret_inside_another_leaves_nothing() -> None:
    assert Redactor(["password", "password-and-more"])("x password-and-more y") == f"x {MASK} y"
    assert Redactor(["short"])("short words stay short") == "short words stay short"
    assert Redactor(more=lambda text: text.replace("Ann", "A."))("Ann") == "A."


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLWl0"


@pytest.mark.parametrize(
    "text",
    [
        "eyJ" * 300_000,
        "eyJ0123456789.x " * 60_000,
        "sk-a " * 200_000,
        "lg_" + "a" * 1_000_000,
        "-----BEGIN " + "A" * 1_000_000,
        "-----BEGIN A" * 90_000,
    ],
    ids=lambda text: text[:16],
)
def test_nothing_that_a_client_writes_makes_the_search_slow(text: str) -> None:
    redactor = Redactor()  # a search that is not linear would take minutes for each of these
    assert redactor(text) == text
    assert redactor(f"{text} {JWT}") == f"{text} {MASK}"


SPELLINGS = {
    "as it is": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "ascii": lambda secret: json.dumps(secret)[1:-1],
    "php": lambda secret: json.dumps(secret)[1:-1].replace("/", r"\/"),
    ".net": lambda secret: json.dumps(secret)[1:-1].replace("+", r"\u002B").replace("&", r"\u0026"),
    "all of it": lambda secret: "".join(
        f"\\u{unit:04x}" for unit in struct.unpack(f">{len(secret.encode('utf-16-be')) // 2}H", secret.encode("utf-16-be"))
    ),
}  # fmt: skip
SECRETS = [
    "caller/key+0123456789&x",
    'p\u00e4ss\U0001f511word"with\\quotes\nand\\lines',
    "sk-ant-api03-abcdefghijklmnopqrst",
]


@pytest.mark.parametrize("deep", [1, 2, 3])
@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("secret", SECRETS, ids=["plain", "odd", "shape"])
def test_a_secret_is_found_however_json_spells_it(secret: str, how: str, deep: int) -> None:
    body = f'{{"k\u00e9": "\\n{SPELLINGS[how](secret)}\\""}}'
    for _ in range(deep - 1):
        body = json.dumps({"arguments": body, "more": "\n"})
    known = () if secret.startswith("sk-") else (secret,)
    for redacted in (Redactor(known)(body), Redactor()(body, known)):
        for _ in range(deep - 1):
            redacted = json.loads(redacted)["arguments"]
        assert json.loads(redacted) == {"k\u00e9": f'\n{MASK}"'}


def test_what_spells_no_secret_stays_as_it_is() -> None:
    redactor = Redactor(["caller/key+0123456789", 'odd"key\\0123456789'])
    for text in (
        r"C:\\call\/key",
        r"\u002B\u00e9\u",
        "\\",
        r"\/" * 9,
        r"\u005cu002B",
        r"0123456789 \x \ud83d",
        r"\\\\\\\/",
    ):
        assert redactor(f"some {text}") == f"some {text}"


@pytest.mark.parametrize("text", ["\\", "\\/", "\\u005c", "\\ud83d", '\\"', "\\n\\u0041"])
def test_no_escapes_make_the_search_slow(text: str) -> None:
    # A search that is not linear would take minutes for each of these.
    redactor = Redactor(['odd"key\\0123456789'])
    text = text * (200_000 // len(text))
    assert redactor(f"{text} caller/key", ("caller/key",)) == f"{text} {MASK}"
    assert redactor(f"{text} 0123456789") == f"{text} 0123456789"


def test_what_is_left_of_a_secret_that_was_cut_off_is_one() -> None:
    redactor = Redactor([KEY])
    for left in range(8, len(KEY) + 1):
        assert redactor(f"bad key {KEY[:left]}") == f"bad key {MASK}"
        assert redactor(f'{{"a":"{KEY[:left]}') == f'{{"a":"{MASK}'
    assert redactor(f"bad key {KEY[:-1]}...") == f"bad key {MASK}..."
    assert redactor(f"bad key {KEY[:-1]}…") == f"bad key {MASK}…"
    assert redactor(f"{KEY[:-1]} and more") == f"{KEY[:-1]} and more", "the end of a text is where it was cut"
    assert redactor(f"a {KEY[:7]}") == f"a {KEY[:7]}", "a shorter beginning is a word"


def test_secrets_that_overlap_leave_nothing_of_each_other() -> None:
    assert Redactor(["abcdefghij", "ghijklmnop"])("x abcdefghijklmnop y") == f"x {MASK} y"


def test_a_header_that_is_sent_twice_hides_no_key_and_names_the_caller_as_frameworks_do() -> None:
    callers = Callers(pepper=lambda: b"pepper")
    first, second = (
        (b"authorization", b"Bearer first-key-0123"),
        (b"authorization", b"Bearer second-key-0123"),
    )
    sessions = [(b"x-session-id", b"one"), (b"x-session-id", b"two")]
    found = callers.metadata([first, second, *sessions, (b"x-api-key", b"third-key-0123")])
    assert found.api_key_hash == callers.hashed(b"first-key-0123")
    assert set(found.secrets) == {"first-key-0123", "second-key-0123", "third-key-0123"}
    assert found.session_id == "one"


def test_a_key_after_a_scheme_is_hidden_however_many_words_follow_it() -> None:
    found = Callers(pepper=lambda: b"pepper").metadata(
        [(b"authorization", b"Bearer key-0123456789 and more")]
    )
    assert "key-0123456789" in found.secrets
