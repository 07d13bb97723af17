"""Which requests are guarded.

Servers and frameworks disagree about what a path is: they decode it once, twice or not at all, drop `;parameters`,
join slashes, cut at a newline, ignore case. Whoever matches one spelling is passed by with another. So a path is first
taken down to what *any* of them could make of it; if that is a guarded route, the request is guarded when it was spelled
plainly and refused when it was not. Nothing that a client can write makes a guarded route unguarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from luthien_guard.asgi.types import Scope
from luthien_guard.errors import ConfigError
from luthien_guard.wire.format import WireFormat

__all__ = ["Route", "Routes"]

#: Below a guarded route, what answers with numbers or lists of ids only: no model output.
_HARMLESS: Final = ("/messages/count_tokens", "/responses/input_tokens")
#: Below a guarded route, requests that carry many requests in a shape that no policy sees.
_BUNDLES: Final = ("/messages/batches",)
#: No path to a route has these, but patterns of routes do.
_NOT_EXACT: Final = re.compile(r"[{}<>*?#]")
_METHOD: Final = re.compile(r"[A-Z]+\Z")
#: From the beginning of a run of such letters only: tried from everywhere within one, a long run takes for ever.
_ABSOLUTE: Final = re.compile(r"/?(?<![a-z0-9+.-])[0-9+.-]*[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
_UNSEEN: Final = re.compile(
    r"[\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060\ufeff\ufffd\ud800-\udfff]"
)
_QUERY: Final = re.compile(r"[?#]")
_UNESCAPED: Final = "/:@!$&'()*+,=~-._"  # what a path may hold without an escape
_KEPT: Final = 1024  # characters of a path, and of what else is said about it, that is worth remembering
_LONG: Final = 4096  # characters: no path to a guarded route comes near it
_ROUNDS: Final = 4  # of percent-decoding; no stack of servers and frameworks decodes more often


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `refusal`: why it may not go there, or None."""

    wire_format: str
    #: The request's body is a model request; below a guarded route it may be anything, or nothing.
    exact: bool
    refusal: str | None = None
    #: It takes many requests at once.
    bundle: bool = False


class Routes:
    """The guarded routes of one middleware.

    `extra` maps exact paths to wire formats; a path that maps to None is left alone, whatever its suffix.
    Raises ConfigError for a wire format that does not exist, and for what is no exact path.
    """

    def __init__(
        self, formats: Mapping[str, WireFormat], extra: Mapping[str, str | None] | None = None
    ) -> None:
        extra = extra or {}
        if not isinstance(extra, Mapping):
            raise ConfigError(
                "routes: give a mapping of paths to wire formats, such as {'/api/chat': 'openai.chat'}"
            )
        self._suffixes = {each.suffix: name for name, each in formats.items()}
        for path in extra:
            if not path.startswith("/") or _NOT_EXACT.search(path):
                raise ConfigError(
                    f"routes: {path!r} is not an exact path, such as '/api/chat'; a route with parameters is guarded where "
                    f"it ends in {', '.join(self._suffixes)}"
                )
        self._exact = {_plain(path): name for path, name in extra.items() if name is not None}
        self._spelled = {path for path, name in extra.items() if name is not None}
        self._exempt = {path for path, name in extra.items() if name is None}
        for name in self._exact.values():
            if name not in formats:
                raise ConfigError(
                    f"routes: unknown wire format {name!r}; known are {', '.join(sorted(formats))}"
                )
        #: What the path to a guarded route ends in, however it is spelled.
        self._ends = {
            path.rsplit("/", 1)[1]: name
            for path, name in [*self._exact.items(), *((_plain(s), n) for s, n in self._suffixes.items())]
        }
        self._found = lru_cache(maxsize=2048)(self._find)

    def match(self, scope: Scope) -> Route | None:
        """The route of an http or websocket scope; None when it is not guarded."""
        raw: Any = scope.get("raw_path")
        raw = b"" if not raw else raw if type(raw) is bytes else bytes(raw)
        path, root = scope["path"], scope.get("root_path", "")
        find = self._found if len(path) + len(raw) + len(root) <= _KEPT else self._find
        route = find(path, raw, root)
        if route is None or route.refusal is not None:
            return route
        method = scope.get("method", "GET")
        if method != "POST" and not _METHOD.match(method):
            return Route(
                route.wire_format, route.exact, f"the method {method!r} is not spelled as it has to be"
            )
        return route

    # ------------------------------------------------------------------------------------------------------------------

    def _find(self, path: str, raw: bytes, root: str) -> Route | None:
        raw, root = raw.split(b"?", 1)[0], root.rstrip("/")
        if max(len(path), len(raw)) > _LONG:
            return self._refused(path, raw, root)
        plain = self._is_plain(path, raw, root)
        if plain and self._exempt.intersection(_mounted(path, root)):
            return None
        readings = set(_readings(path, raw, root))
        hits = {hit for reading in readings if (hit := self._lookup(reading)) is not None}
        if not hits:
            return None
        name, exact = max(hits, key=lambda hit: hit[1])
        if plain and len({hit[0] for hit in hits}) == 1:
            if not exact and self._is_harmless(path):
                return None
            return Route(name, exact, bundle=any(reading.endswith(_BUNDLES) for reading in readings))
        return Route(name, exact, "the path is not spelled in its canonical form")

    def _refused(self, path: str, raw: bytes, root: str) -> Route | None:
        """What has no end is not read in every way: it is refused if any of them could lead to a guarded route."""
        for spelling in _spellings(path, raw):
            text = _bare(root + spelling).casefold()
            for end, name in self._ends.items():
                if end in text:
                    return Route(name, True, "the path is too long for this route")
        return None

    def _lookup(self, path: str) -> tuple[str, bool] | None:
        """The wire format, and whether this is the route itself or something below it."""
        if path in self._exact:
            return self._exact[path], True
        for suffix, name in self._suffixes.items():
            if path.endswith(suffix):
                return name, True
        at, name = max((path.rfind(suffix + "/"), name) for suffix, name in self._suffixes.items())
        return (name, False) if at >= 0 else None

    def _is_plain(self, path: str, raw: bytes, root: str) -> bool:
        """True when every reader takes the path for the same one."""
        if raw and not any(
            raw.upper() == quote(way, safe=_UNESCAPED).upper().encode() for way in _mounted(path, root)
        ):
            return False  # a letter that is dressed up as an escape, or another path altogether
        if (self._spelled | self._exempt).intersection(_mounted(path, root)):
            return True
        whole = root if path in ("", "/") else path  # a mount at the route itself leaves nothing of the path
        if _plain(whole) != whole.casefold() or "/.." in whole:
            return False
        return any(suffix in whole for suffix in self._suffixes)  # and not some other case of it

    def _is_harmless(self, path: str) -> bool:
        """Only as a child of the guarded route, never below something else that is guarded."""
        return any(
            path.endswith(known) and self._lookup(path.removesuffix(known)) is None for known in _HARMLESS
        )


def _mounted(path: str, root: str) -> tuple[str, ...]:
    """The path as its server, its mount and its application may write it."""
    if not root:
        return (path,)
    return (path, root + path, path.removeprefix(root), *((root,) if path in ("", "/") else ()))


def _readings(path: str, raw: bytes, root: str) -> Iterator[str]:
    """Everything that a server or framework could take the path for, in plain form."""
    candidates = {each for spelling in _spellings(path, raw) for each in _mounted(spelling, root)}
    for bare in {_bare(candidate) for candidate in candidates}:
        # Who does not drop a host or a query takes it for a part of the path.
        for whole in {bare, _ABSOLUTE.sub("", bare, count=1)}:
            for reading in {whole, _before_query(whole)}:
                plain = _joined(reading)
                yield plain
                if "/.." in plain:
                    yield _resolved(plain)


def _spellings(path: str, raw: bytes) -> set[str]:
    return {path, unquote(raw.decode("latin-1")), raw.decode("latin-1")} if raw else {path}


def _plain(path: str) -> str:
    """The path without anything that some reader drops: escapes, host, query, parameters, empty segments, controls,
    case."""
    return _joined(_before_query(_ABSOLUTE.sub("", _bare(path), count=1)))


def _bare(path: str) -> str:
    """Without escapes and controls."""
    for _ in range(_ROUNDS):
        decoded = unquote(path, errors="replace")
        if decoded == path:
            break
        path = decoded
    return _UNSEEN.sub("", path).replace("\\", "/")


def _before_query(path: str) -> str:
    return _QUERY.split(path, maxsplit=1)[0]


def _joined(path: str) -> str:
    """Without parameters, empty segments and case."""
    segments = [segment.split(";", 1)[0] for segment in path.split("/")]
    return "/" + "/".join(segment for segment in segments if segment not in ("", ".")).casefold()


def _resolved(path: str) -> str:
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment != "..":
            kept.append(segment)
        elif kept:
            kept.pop()
    return "/" + "/".join(kept)
