"""R01-R07: no spelling of a guarded route is unguarded."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.asgi.routes import Routes
from luthien_guard.errors import ConfigError
from luthien_guard.testing.plane import ScriptedGuard

FORMATS = ScriptedGuard().formats
ROUTES = Routes(FORMATS, {"/api/Chat": "openai.chat", "/users/messages": None})
GUARDED = ["/v1/chat/completions", "/v1/messages", "/v1/responses"]


def found(path: str, raw: bytes | None = None, root: str = "", method: str = "POST") -> str:
    scope: dict[str, Any] = {"path": path, "root_path": root, "method": method, "raw_path": raw}
    route = ROUTES.match(scope)
    if route is None:
        return "open"
    return "refused" if route.refusal else "guarded" if route.exact else "below"


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_the_plain_spelling_is_guarded_with_every_method(path: str, method: str) -> None:
    assert found(path, path.encode(), method=method) == "guarded"


SPELLINGS = {
    "newline": "{}\n",
    "carriage return": "{}\r",
    "crlf": "{}\r\n",
    "nul": "{}\x00",
    "tab": "{}\t",
    "space": "{} ",
    "non-breaking space": "{}\xa0",
    "zero width": "{}\u200b",
    "byte order mark": "\ufeff{}",
    "replacement character": "{}\ufffd",
    "lone surrogate": "{}\udcc3",
    "trailing slash": "{}/",
    "two trailing slashes": "{}//",
    "double slash": "/{}",
    "inner double slash": "/v1//{}",
    "dot segment": "/.{}",
    "trailing dot": "{}/.",
    "up and down": "/x/..{}",
    "backslash": "\\v1\\messages",
    "mixed backslash": "{}\\",
    "parameters": "{};a=b",
    "empty parameters": "{};",
    "inner parameters": "/v1;x=1/messages",
    "fragment": "{}#f",
    "escaped question mark": "{}?x=1",
    "still escaped slash": "/v1%2Fmessages",
    "twice escaped": "/v1%252Fmessages",
    "three times escaped": "/v1%25252Fmessages",
    "escaped newline": "{}%0A",
    "escaped letter": "/v1/%6Dessages",
    "upper case": "/v1/MESSAGES",
    "mixed case": "/V1/Messages",
    "absolute form": "http://evil{}",
    "absolute form, upper case": "HTTPS://evil:80{}",
    "absolute form under a slash": "/http://evil{}",
    "no leading slash": "v1/messages",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("path", GUARDED)
def test_every_other_spelling_is_refused(spelling: str, path: str) -> None:
    assert found(spelling.format(path)) == "refused"


@pytest.mark.parametrize(
    "raw",
    [
        b"/v1/%6Dessages",
        b"/v1%2Fmessages",
        b"/v1/messages%0A",
        b"//v1/messages",
        b"/v1/x/../messages",
        b"/other",
    ],
)
def test_a_raw_path_that_says_something_else_is_refused(raw: bytes) -> None:
    assert found("/v1/messages", raw) == "refused"


def test_a_raw_path_that_hides_a_guarded_route_is_refused() -> None:
    assert found("/v1/models", b"/v1/messages") == "refused"


@pytest.mark.parametrize("method", ["post", "Post", "POST\n", " POST", "", "P0ST", "PÖST"])
def test_a_method_that_is_not_spelled_plainly_is_refused(method: str) -> None:
    assert found("/v1/messages", method=method) == "refused"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/v1/models",
        "/v1/chat",
        "/xmessages",
        "/messagesx",
        "/v1/chat/completionsx",
        "*",
        "",
        "/a//b/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "post"])
def test_everything_else_is_open(path: str, method: str) -> None:
    assert found(path, method=method) == "open"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp_ABC",
        "/v1/responses/resp_1/input_items",
        "/v1/responses/resp_1/cancel",
        "/v1/responses/compact",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/chat/completions/chatcmpl-1/messages/x",
        "/v1/messages/batches",
        "/v1/messages/batches/b_1/results",
    ],
)
def test_what_lies_below_a_route_is_guarded(path: str) -> None:
    assert found(path) == "below"


def test_counting_tokens_is_no_model_output() -> None:
    assert found("/v1/messages/count_tokens") == "open"
    assert found("/v1/responses/input_tokens") == "open"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/count_tokens/",
        "/v1/Messages/count_tokens",
        "/v1/messages//count_tokens",
        "/v1/messages/count_tokens\n",
    ],
)
def test_but_only_under_its_plain_name(path: str) -> None:
    assert found(path) == "refused"


def test_and_not_below_something_that_answers() -> None:
    assert found("/v1/responses/resp_1/messages/count_tokens") == "below"


def test_extra_routes_are_exact() -> None:
    assert found("/api/Chat") == "guarded"
    assert found("/api/Chat/x") == "open"
    assert found("/api/chat") == "refused"
    assert found("/api//Chat") == "refused"


def test_an_exempt_path_is_open_under_its_plain_name_only() -> None:
    assert found("/users/messages", b"/users/messages") == "open"
    assert found("/users/messages/") == "refused"
    assert found("/users//messages") == "refused"
    assert found("/users/messages", b"/users/%6Dessages") == "refused"


@pytest.mark.parametrize(
    ("path", "raw", "root"),
    [
        ("/v1/messages", b"/v1/messages", "/v1"),  # Starlette's Mount: the whole path
        ("/messages", b"/v1/messages", "/v1"),  # the path that is left
        ("/messages", b"/messages", "/v1"),
        ("/", b"/v1/messages", "/v1/messages"),  # mounted at the route itself
        ("", b"/v1/messages", "/v1/messages"),
    ],
)
def test_mounts(path: str, raw: bytes, root: str) -> None:
    assert found(path, raw, root) == "guarded"


@pytest.mark.parametrize(
    "path", ["/openai/deployments/GPT-4o/chat/completions", "/a:b/@c/messages", "/team/modèle/messages"]
)
def test_whatever_stands_in_front_may_be_spelled_freely(path: str) -> None:
    assert found(path, quote(path, safe="/:@").encode()) == "guarded"


@pytest.mark.parametrize(
    "path", ["/api/{tenant}/chat", "/api/<tenant>/chat", "/api/*", "/chat?x=1", "api/chat", ""]
)
@pytest.mark.parametrize("name", ["openai.chat", None])
def test_what_would_never_match_is_told_at_once(path: str, name: str | None) -> None:
    with pytest.raises(ConfigError, match=r"is not an exact path.* ends in /chat/completions, "):
        Routes(FORMATS, {path: name})


def test_a_list_of_routes_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"routes: give a mapping"):
        Routes(FORMATS, ["/api/chat"])  # type: ignore[arg-type]


def test_an_unknown_wire_format_is_told_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown wire format 'openai\.chats'; known are anthropic\.messages"
    ):
        Routes(FORMATS, {"/x": "openai.chats"})


@given(
    path=st.sampled_from(GUARDED),
    dressed=st.sets(st.integers(0, 20)),
    junk=st.text(alphabet="\n\r\t\x00 /\\;\u200b\ufeff", max_size=4),
)
def test_no_dressing_up_is_open(path: str, dressed: set[int], junk: str) -> None:
    spelled = "".join(
        f"%{ord(char):02X}" if at in dressed and char != "/" else char for at, char in enumerate(path)
    )
    assert found(spelled + junk) in ("guarded", "refused")
    assert found(path, spelled.encode() + quote(junk).encode()) in ("guarded", "refused")


@given(st.text())
def test_any_text_at_all_has_an_answer(path: str) -> None:
    assert found(path) in ("open", "refused", "guarded", "below")
