"""Every error of the library, split by who has to act.

LuthienError
├── ConfigError            the deployer: a wrong setting, found at start
├── PolicyError            the author of a policy: it raised, hung or returned nonsense
│   ├── PolicyTimeout
│   └── IllegalOutput      what the policy made would break the wire format
├── WireError              the peer: bytes that this wire format cannot accept
│   ├── MalformedBody      400
│   ├── BodyTooLarge       413
│   ├── UnsupportedEncoding 415
│   ├── HistoryKept        400: a part of the conversation is not in the request
│   └── AnswerFromMiddle   400: a part of the answer is not asked for
└── SinkError              the operator: a store, broker or collector failed
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager

__all__ = [
    "AnswerFromMiddle",
    "BodyTooLarge",
    "ConfigError",
    "HistoryKept",
    "IllegalOutput",
    "LuthienError",
    "MalformedBody",
    "PolicyError",
    "PolicyTimeout",
    "SinkError",
    "UnsupportedEncoding",
    "WireError",
    "did_you_mean",
    "set_at",
    "told",
]


class LuthienError(Exception):
    """The root: catch this to catch everything that the library raises by itself."""


class ConfigError(LuthienError):
    """A setting is wrong. Raised at start, before any traffic. `place`: where it stands in a configuration, keys and list
    positions from the top, `("policies", 0, "config")`; empty where nobody knows."""

    def __init__(self, message: str = "", place: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.place = place


@contextmanager
def set_at(*place: str | int) -> Generator[None]:
    """Errors of what is made here are of this setting, unless they know a place themselves."""
    try:
        yield
    except ConfigError as error:
        error.place = error.place or place
        raise


class PolicyError(LuthienError):
    """A policy failed. `policy` and `hook` say which one and where."""

    def __init__(self, message: str, *, policy: str, hook: str) -> None:
        super().__init__(message)
        self.policy = policy
        self.hook = hook


class PolicyTimeout(PolicyError):
    """A hook ran past its deadline."""


class IllegalOutput(PolicyError):
    """A policy made output that the wire format's grammar forbids."""


class WireError(LuthienError):
    """Bytes from a peer that cannot be accepted. `status` is what HTTP answers them with."""

    status = 400
    code = "malformed_request"


class MalformedBody(WireError):
    """Not JSON that every parser would read the same way."""


class BodyTooLarge(WireError):
    """Past a limit: bytes, depth or decoded size."""

    status = 413
    code = "request_too_large"


class UnsupportedEncoding(WireError):
    """A content encoding that the guard cannot undo."""

    status = 415
    code = "unsupported_encoding"


class HistoryKept(WireError):
    """A request refers to what the provider keeps, and a policy must see it. `references`: `ChatRequest.references`."""

    #: Anthropic's own; their tool runners then send the whole conversation.
    code = "thread_unsupported_request"

    def __init__(self, references: Iterable[str]) -> None:
        named = " and ".join(f"`{name}`" for name in references)
        super().__init__(
            f"a policy here must see the whole conversation: send it in the request; {named} refers to one that the "
            "provider keeps"
        )


class AnswerFromMiddle(WireError):
    """Only what comes after a place in a stored answer is asked for, and a policy judges it."""

    code = "stream_resume_unsupported"

    def __init__(self) -> None:
        super().__init__(
            "a policy here judges this answer: read it from its beginning, without `starting_after`"
        )


class SinkError(LuthienError):
    """A sink could not take a record."""


def told(error: BaseException) -> str:
    """An error in words; some fail when they are asked for them."""
    name = type(error).__name__
    try:
        words = str(error)
    except Exception:  # noqa: BLE001
        return name
    return f"{name}: {words}" if words else name


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing when nothing is near."""
    close = difflib.get_close_matches(value, list(known), n=1, cutoff=0.5) if isinstance(value, str) else []
    return f" (did you mean {close[0]!r}?)" if close else ""
