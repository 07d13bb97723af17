"""Which strings of a configuration are secrets: the names under which they stand say so."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = [
    "are_headers",
    "is_secret",
    "is_whole",
    "secrets_of_environment",
    "secrets_of_headers",
    "secrets_of_settings",
    "unschemed",
]

_ENVIRONMENT: Final = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PEPPER)$", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"(?:.*_)?(?:api_?keys?|access_key_id|secrets?(?:_.*)?|token|password|passwd|passphrase|bearer|cookie|auth|"
    r"authorization|credentials?)|.+_keys?"
)
#: Keys that open nothing, tokens of the model's own language, prices.
_ORDINARY: Final = re.compile(
    r"(?:.*_)?(?:cache|public|idempotency|primary|foreign|partition|sort|group|routing)_keys?|"
    r"(?:.*_)?(?:bos|eos|sos|pad|unk|sep|cls|mask|stop|start|begin|end|image|audio|video|text|per|special|prompt|"
    r"completion|reasoning|thinking|input|output|max|min|first|last|next|new)_token"
)
#: Private as a whole: also what is no credential opens doors together with one.
_WHOLE: Final = re.compile(r"(?:.*_)?(?:headers?|credentials?)|api_base|base_url")
_HEADERS: Final = re.compile(r"(?:.*_)?headers?")
#: Of which everybody sends the same: no record could say `application/json` any more.
_COMMON: Final = frozenset(
    {"accept", "content_type", "user_agent", "anthropic_version", "anthropic_beta", "openai_beta"}
)
_SCHEME: Final = re.compile(r"(?:Bearer|Basic|Token) +(.+)", re.IGNORECASE | re.DOTALL)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _plain(name: object) -> str:
    """`clientSecret`, `client-secret` and `client_secret` are one name."""
    return _HUMP.sub("_", name).replace("-", "_").lower() if isinstance(name, str) else ""


def is_secret(name: object) -> bool:
    """Whether a string under this name opens doors."""
    plain = _plain(name)
    return _SECRET.fullmatch(plain) is not None and _ORDINARY.fullmatch(plain) is None


def is_whole(name: object) -> bool:
    """Whether everything under this name is private."""
    return _WHOLE.fullmatch(_plain(name)) is not None


def are_headers(name: object) -> bool:
    """Whether what stands under this name is sent as headers."""
    return _HEADERS.fullmatch(_plain(name)) is not None


def unschemed(secret: str) -> tuple[str, ...]:
    """With and without "Bearer": it may be said again without."""
    scheme = _SCHEME.fullmatch(secret)
    return (secret,) if scheme is None else (secret, scheme[1])


def secrets_of_environment() -> list[str]:
    """The values of the environment variables whose names say that they are secrets."""
    return [value for name, value in os.environ.items() if _ENVIRONMENT.search(name)]


def secrets_of_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """Every value, and each word of a credential: whoever repeats it leaves its scheme out."""
    for name, value in headers.items():
        yield from () if _plain(name) in _COMMON else unschemed(value)
        yield from value.split()[1:] if is_secret(name) else ()


def secrets_of_settings(settings: object) -> Iterator[str]:
    """What stands under the name of a secret, and all headers, at any depth. The words of a list are none, whatever it
    is called: it may say what to look for. Walks without recursion and nothing twice: settings may be objects."""
    seen: set[int] = set()
    todo: list[tuple[object, Any]] = [("", settings)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, str):
            yield from unschemed(value) if is_secret(name) else ()
        elif id(value) not in seen:
            seen.add(id(value))
            parts = _parts(value)
            if are_headers(name):
                yield from secrets_of_headers({key: each for key, each in parts if isinstance(each, str)})
            inherits = is_secret(name) and is_whole(name)  # `credentials`: whatever they hold
            todo += ((name, each) for _, each in parts) if inherits else parts


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What is in a container, each part with its name."""
    if isinstance(value, Mapping):
        return [(str(name), each) for name, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [("", each) for each in value]
    # Of pydantic. By their class: there are objects that have every attribute that they are asked for.
    if hasattr(type(value), "get_secret_value"):
        return [("secret", value.get_secret_value())]
    if hasattr(type(value), "model_dump"):
        return list(vars(value).items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(each.name, getattr(value, each.name, None)) for each in dataclasses.fields(value)]
    return []
