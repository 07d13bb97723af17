"""A program: a host whose environment holds a marked credential under every name that litellm reads, asked by strangers
for models of every provider that litellm knows. Prints, as JSON, where their key arrived and where a mark did.

Nothing leaves the machine: every connection goes to a proxy here that ends TLS itself and answers 400.
"""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import json
import os
import re
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

MARK: Final = "HOSTS-OWN-"
KEY: Final = "sk-of-a-stranger"
_NAME: Final = re.compile(
    rb"[\"']([A-Z][A-Z0-9_]*(?:KEY|KEY_ID|TOKEN|SECRET|JWT|PASSWORD|ORGANIZATION|ORG_ID|PROJECT_ID|CREDENTIALS|CLIENT_ID|TENANT_ID|USERNAME))[\"']"
)
#: Where litellm and the SDKs below it look names up.
_SOURCES: Final = (
    *(
        "litellm/llms",
        "litellm/main.py",
        "litellm/utils.py",
        "litellm/responses",
        "litellm/litellm_core_utils",
    ),
    *("openai/_client.py", "anthropic/_client.py"),
)
#: What a provider needs beside its key before anything is sent.
_SETTING: Final = {
    "AWS_REGION": "us-east-1",
    "AWS_REGION_NAME": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AZURE_API_BASE": "https://azure.example",
    "AZURE_API_VERSION": "2024-10-21",
    "AZURE_AI_API_BASE": "https://azure-ai.example",
    "HOSTED_VLLM_API_BASE": "https://vllm.example",
    "CLOUDFLARE_ACCOUNT_ID": "a",
    "OPENAI_CUSTOM_HEADERS": f"x-custom: {MARK}OPENAI_CUSTOM_HEADERS",
    "ANTHROPIC_CUSTOM_HEADERS": f"x-custom: {MARK}ANTHROPIC_CUSTOM_HEADERS",
}
_PATHS: Final = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}


class Proxy:
    """Hears every request: the host it is for, and all of its bytes."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(_certificate(folder))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        try:
            from tests.gateway.harness import read_request  # once the environment is what it is to be

            head = read_request(connection)
            host = head.split(b" ", 2)[1].decode()
            if head.startswith(b"CONNECT "):
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                connection = self._tls.wrap_socket(connection, server_side=True)
                head = read_request(connection)
            self.heard.append((host, head))
            body = b'{"error":{"message":"no","type":"t","code":"c"}}'
            connection.sendall(
                b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
        except (OSError, ValueError):
            pass
        finally:
            connection.close()


def _certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(1))
    file = folder / "proxy.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


def _environment(proxy: str) -> dict[str, str]:
    found = {name.decode(): MARK + name.decode() for text in _texts() for name in _NAME.findall(text)}
    for name in [each for each in os.environ if each in found or "proxy" in each.lower()]:
        del os.environ[name]
    for each in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        found[each] = proxy
    found.update(LITELLM_LOCAL_MODEL_COST_MAP="True", DISABLE_AIOHTTP_TRANSPORT="True", SSL_VERIFY="False")
    return {**found, **_SETTING}


def _texts() -> Iterator[bytes]:
    for each in _SOURCES:
        package, _, rest = each.partition("/")
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        place = Path(spec.origin).parent / rest
        files = [place] if place.is_file() else [*place.rglob("*.py"), *place.rglob("*.json")]
        yield from (file.read_bytes() for file in files)


def _providers() -> list[str]:
    import litellm
    from litellm.llms.openai_like.json_loader import JSONProviderRegistry

    listed = {str(getattr(each, "value", each)) for each in litellm.provider_list}
    return sorted(listed | set(JSONProviderRegistry.list_providers()) | {"gdc"})


def _questions() -> Iterator[tuple[str, str]]:
    """Wire formats and models. Of every provider a name that nobody knows, in each format; and some that litellm knows,
    with and without the provider's: what it does depends on the name too."""
    import litellm

    for provider in _providers():
        yield from ((wire_format, f"{provider}/x-model") for wire_format in _PATHS)
    known: dict[str, list[str]] = {}
    for name, about in litellm.model_cost.items():
        if about.get("mode") in ("chat", "responses", "completion"):
            known.setdefault(str(about.get("litellm_provider")), []).append(name)
    formats = itertools.cycle(_PATHS)
    for provider, names in known.items():
        first, last = (each.removeprefix(provider + "/") for each in (names[0], names[-1]))
        yield from zip(formats, (first, f"{provider}/{first}", f"{provider}/{last}"), strict=False)


def _call(wire_format: str, model: str) -> Any:
    from luthien_guard.gateway.upstreams.types import Call

    hello: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    body = {"model": model, **(hello if wire_format != "openai.responses" else {"input": "hi"})}
    headers = [(b"authorization", b"Bearer " + KEY.encode())]
    return Call(wire_format, "POST", _PATHS[wire_format], b"", headers, json.dumps(body).encode(), model)


class _Stranger:
    """What one learns by asking."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.reached: set[str] = set()  # prefixes of models whose provider heard the stranger's key
        self.refused: set[str] = set()  # prefixes of models that may not be asked for
        self.leaks: list[Any] = []

    async def ask(self, upstream: Any, wire_format: str, model: str) -> None:
        from luthien_guard.gateway.upstreams.types import UpstreamError

        refused = False
        try:
            await upstream.ask(_call(wire_format, model))
        except UpstreamError as error:
            refused = error.code == "credential_not_forwardable"
        heard = list(self._proxy.heard)
        self._proxy.heard.clear()
        if refused:
            self.refused.add(model.partition("/")[0])
            self.leaks += [[wire_format, model, host, "a request, though refused"] for host, _ in heard]
        for host, data in heard:
            if KEY.encode() in data:
                self.reached.add(model.partition("/")[0])
            marks = set(re.findall(MARK + r"\w+", data.decode("latin-1")))
            self.leaks += [[wire_format, model, host, mark] for mark in sorted(marks)]


async def _asked(proxy: Proxy) -> dict[str, Any]:
    import litellm

    from luthien_guard import Limits
    from luthien_guard.config.settings import UpstreamSettings
    from luthien_guard.gateway.upstreams import make_upstream

    stranger = _Stranger(proxy)
    # arguments for litellm: it is asked always, even where a provider speaks the client's wire format
    upstream = make_upstream(UpstreamSettings(litellm={"timeout": 5}), 0, Limits())
    for wire_format, model in _questions():
        await stranger.ask(upstream, wire_format, model)
    # addresses that litellm knows the provider of
    for place in litellm.openai_compatible_endpoints:
        url = place if "://" in place else f"https://{place}"
        known = make_upstream(UpstreamSettings(litellm={"timeout": 5}, base_url=url), 0, Limits())
        await stranger.ask(known, "openai.chat", "x-model")
        await stranger.ask(known, "openai.responses", "x-model")
    await upstream.stop()
    return {
        "providers": _providers(),
        "reached": sorted(stranger.reached),
        "refused": sorted(stranger.refused),
        "leaks": stranger.leaks,
    }


def main() -> None:
    import anyio

    with tempfile.TemporaryDirectory() as folder:
        proxy = Proxy(Path(folder))
        os.environ.update(_environment(proxy.url))
        found = anyio.run(_asked, proxy)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
