"""An upstream that speaks the client's own wire format: bytes go through unconverted.

aiohttp, because it costs a sixth of httpx per chunk; so asyncio only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from luthien_guard.config.masking import masked
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.upstreams.answers import BROKEN, GARBLED, MODEL_PATHS, reply_of
from luthien_guard.gateway.upstreams.headers import for_upstream
from luthien_guard.gateway.upstreams.listing import models_in
from luthien_guard.gateway.upstreams.match import Match, formats_of
from luthien_guard.gateway.upstreams.own import has_own_credential
from luthien_guard.gateway.upstreams.types import Call, Reply, UpstreamError
from luthien_guard.limits import Limits
from luthien_guard.wire.json_text import patch

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

__all__ = ["NativeUpstream", "origin_of"]

#: Where the SDKs of these APIs ask when nobody says otherwise.
_PUBLIC: Final[Mapping[str, str]] = {
    "anthropic.messages": "https://api.anthropic.com",
    "openai.chat": "https://api.openai.com/v1",
    "openai.responses": "https://api.openai.com/v1",
}
_STALE: Final = 3  # connections out of the pool that may turn out to be closed, one after another


class NativeUpstream:
    """One base URL with its connection pool."""

    def __init__(
        self, settings: UpstreamSettings, name: str, limits: Limits, *, ambient_key: str | None = None
    ) -> None:
        self.name = name
        self.fallback: Sequence[str] = tuple(settings.fallback)
        self.retries = settings.retries
        self.formats = formats_of(settings, name)
        self._match = Match(settings.match)
        self._settings = settings
        self._limits = limits
        self._base = {each: _base(settings.base_url or _PUBLIC[each], each, name) for each in self.formats}
        self._ambient_key = ambient_key  # of the host's environment
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[
            tuple[str, str], URL
        ] = {}  # of the paths in MODEL_PATHS: taking one apart costs 40 us

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(map(origin_of, self._base.values()))

    @property
    def has_own_key(self) -> bool:
        return has_own_credential(self._settings)

    def needs_caller(self, call: Call) -> bool:
        return not self.has_own_key

    def speaks(self, call: Call) -> bool:
        return call.wire_format in self.formats

    def serves(self, call: Call) -> bool:
        return self.speaks(call) and self._match(call.model)

    async def start(self) -> None:
        if self._session is not None:
            return
        aiohttp = _aiohttp(self.name)
        try:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        except RuntimeError:
            raise ConfigError(
                f"upstream {self.name} rides on asyncio, and no asyncio loop runs here: serve with uvicorn"
            ) from None
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # what one client was given is never sent for another
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout),
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
        )

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, call: Call) -> Reply:
        import aiohttp

        try:
            response = await self._sent(call)
        except aiohttp.ClientResponseError:
            raise UpstreamError(502, "upstream_error", GARBLED) from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise self._unreachable(error) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        return await reply_of(response, self._limits, call)

    async def models(self, call: Call) -> Sequence[Mapping[str, Any]]:
        own = call if self.speaks(call) else replace(call, wire_format=self.formats[0])
        reply = await self.ask(
            replace(own, query=b"limit=1000" if own.wire_format == "anthropic.messages" else b"")
        )
        try:
            if reply.status != 200:
                raise UpstreamError(reply.status, "upstream_error", f"status {reply.status}")
            found = models_in(await reply.read())
        finally:
            await reply.aclose()
        return [each for each in found if self._match(each["id"])]

    # ------------------------------------------------------------------------------------------------------------------

    async def _sent(self, call: Call) -> aiohttp.ClientResponse:
        """Upstreams close connections that were idle. A request that was not written whole was not heard: it may be sent
        again, over another one."""
        import aiohttp

        for _ in range(_STALE):
            try:
                return await self._request(call)
            except aiohttp.ClientOSError as error:
                if not isinstance(error.__cause__, aiohttp.ClientConnectionResetError):
                    raise
        return await self._request(call)

    async def _request(self, call: Call) -> aiohttp.ClientResponse:
        if self._session is None:
            await self.start()
        assert self._session is not None
        return await self._session.request(
            call.method,
            self._url(call),
            data=self._body(call) or None,
            headers=for_upstream(call, self._key(call), self._settings.headers),
            allow_redirects=False,  # a credential goes where the deployer said, and nowhere else
        )

    def _url(self, call: Call) -> URL:
        """Kept for the few that most requests go to."""
        from yarl import URL

        plain = not call.query and call.path in MODEL_PATHS
        found = self._urls.get((call.wire_format, call.path)) if plain else None
        if found is None:
            query = b"?" + call.query if call.query else b""
            url = self._base[call.wire_format] + call.path.removeprefix("/v1") + query.decode("latin-1")
            found = URL(url, encoded=True)
            if plain:
                self._urls[call.wire_format, call.path] = found
        return found

    def _key(self, call: Call) -> str | None:
        return self._settings.api_key or (self._ambient_key if call.ambient else None)

    def _body(self, call: Call) -> bytes:
        model = self._settings.model
        if model is None or not call.model or model == call.model:
            return call.body
        return patch(call.body.decode(), {("model",): model}).encode()

    def _unreachable(self, error: Exception) -> UpstreamError:
        import aiohttp

        if isinstance(error, aiohttp.ServerDisconnectedError):
            return UpstreamError(502, "upstream_error", BROKEN)
        if isinstance(error, TimeoutError):
            return UpstreamError(504, "upstream_timeout", f"the upstream {self.name} did not answer in time")
        return UpstreamError(502, "upstream_unreachable", f"the upstream {self.name} cannot be reached")


def origin_of(url: str) -> str:
    """Scheme and host: what a credential is for."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def _base(url: str, wire_format: str, name: str) -> str:
    """What stands before "/messages" or "/chat/completions". OpenAI's SDKs are given a URL that ends in "/v1",
    Anthropic's one that does not: both conventions are kept, and either spelling is understood."""
    parts = _split(url)
    if parts is None or parts.query or parts.fragment:
        shown: str = masked(url)
        raise ConfigError(f"upstream {name}: base_url is {shown!r}: use http(s)://host[:port][/path]")
    if parts.username or parts.password:
        raise ConfigError(f"upstream {name}: base_url holds a credential: use api_key or headers")
    path = parts.path.rstrip("/")
    if wire_format == "anthropic.messages":
        path = path.removesuffix("/v1") + "/v1"
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _split(url: str) -> SplitResult | None:
    """None for what is no http(s) URL that a request can be sent to."""
    try:
        parts = urlsplit(url)
        there = parts.hostname and parts.port != 0
    except ValueError:  # "http://[::1", or a port past 65535
        return None
    plain = parts.netloc.isprintable() and not set(parts.netloc) & set(" \\")
    return parts if there and plain and parts.scheme in ("http", "https") else None


def _aiohttp(name: str) -> Any:
    try:
        import aiohttp
    except ImportError:
        raise ConfigError(f"upstream {name} needs aiohttp: pip install 'luthien-guard[serve]'") from None
    return aiohttp
