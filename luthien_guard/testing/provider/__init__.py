"""A strict provider: an ASGI application that speaks all three wire formats, refuses what the real ones refuse, and
repairs nothing.

    provider = FakeProvider(Script().tool_call("bash", {"command": "ls"}), Script().text("Done."))
    with serving(provider) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any")
        ...
    assert provider.complaints == []

It checks that histories are legal (each call answered once, at once, under its id) and that what it once said comes back
as it said it.
"""

from __future__ import annotations

from luthien_guard.testing.provider.app import Asked, FakeProvider, Played
from luthien_guard.testing.provider.complaint import Complaint
from luthien_guard.testing.provider.serving import serving

__all__ = ["Asked", "Complaint", "FakeProvider", "Played", "serving"]
