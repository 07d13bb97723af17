"""What the gateway says of its records, and what no record of it may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthien_guard import Guard
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway import create_app
from tests.asgi_drive import ask
from tests.delivery.stores import ListStore

pytestmark = pytest.mark.anyio

HOST = [(b"host", b"localhost")]


async def test_records_that_cannot_be_stored_degrade_the_health(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard = Guard(store=store)
    app = create_app(guard, [UpstreamSettings(native="openai.chat", base_url="http://127.0.0.1:9")])
    assert guard.storage is not None
    async with guard:
        store.problem = "the password is hunter2"
        guard.delivery.recorder("c")
        guard.storage.journal.failure = store.problem
        reply = await ask(app, "/health", b"", method="GET", headers=HOST)
        assert b"records: the journal does not take any" in reply.body
        assert b"hunter2" not in reply.body
        store.problem = guard.storage.journal.failure = None
        page = await ask(app, "/metrics", b"", method="GET", headers=HOST)
        assert b'luthien_records{state="accepted"}' in page.body


def test_the_upstreams_keys_are_never_recorded() -> None:
    guard = Guard()
    settings = UpstreamSettings(
        native="openai.chat", base_url="http://h", api_key="very-secret-key", headers={"x": "other-secret"}
    )
    create_app(guard, [settings])
    assert guard.redactor("a very-secret-key and an other-secret") == "a [redacted] and an [redacted]"


def test_the_credentials_of_upstreams_are_never_recorded_whoever_repeats_them() -> None:
    guard = Guard()
    told = {
        "extra_headers": {"x-custom": "tok-custom-01", "authorization": "ApiKey tok-scheme-02"},
        "aws_secret_access_key": "tok-secret-03",
        "fallbacks": [{"api_key": "tok-deeper-04"}],
        "organization": "org-of-everybody",
    }
    headers = {"Authorization": "Bearer tok-header-05", "accept": "application/json"}
    native = UpstreamSettings(native="openai.chat", base_url="http://h", headers=headers)
    create_app(guard, [native, UpstreamSettings(litellm=told, model="openai/gpt-4o")])
    for secret in ("custom-01", "scheme-02", "secret-03", "deeper-04", "header-05"):
        assert guard.redactor(f"you sent tok-{secret}.") == "you sent [redacted]."
    assert guard.redactor("application/json of org-of-everybody") == "application/json of org-of-everybody"
