"""`luthien-guard serve` as a process for each policy, in front of the strict fake provider and of recorded traffic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from luthien_guard.testing.provider import FakeProvider, serving
from tests.cli.processes import served
from tests.clients.scenario import POLICIES
from tests.recordings import FOLDER

__all__ = ["Gateways", "gateways"]

_CONFIG = """\
policies: {policies}
auth: {{mode: passthrough}}
upstreams:
  - {{match: "recorded*", replay: {recordings}, pace: 0}}
  - {{match: "*", native: anthropic.messages, base_url: "{provider}"}}
  - {{match: "*", native: [openai.chat, openai.responses], base_url: "{provider}/v1"}}
"""


@dataclass(frozen=True)
class Gateways:
    """The address under each policy, and the provider behind all of them."""

    urls: Mapping[str, str]
    provider: FakeProvider


@contextmanager
def gateways(folder: Path, provider: FakeProvider, policies: Iterable[str] = POLICIES) -> Iterator[Gateways]:
    """One process for each of the policies, by their names in `POLICIES`."""
    with ExitStack() as stack:
        url = stack.enter_context(serving(provider))
        urls = {}
        for name in policies:
            home = folder / name
            home.mkdir()
            config = home / "guard.yaml"
            config.write_text(_CONFIG.format(policies=POLICIES[name], recordings=FOLDER, provider=url))
            urls[name] = stack.enter_context(served(home, config)).url
        yield Gateways(urls, provider)
