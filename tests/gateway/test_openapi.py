"""What the gateway says of itself is what it serves. Its answers are checked against it by `nox -s clients`."""

from __future__ import annotations

from luthien_guard.testing.provider import FakeProvider
from tests.gateway.harness import gateway_to

#: For whoever deploys it, and whatever is not guarded.
_APART = {"/openapi.json", "/v1/{rest:path}"}


def test_every_route_is_described() -> None:
    with gateway_to(FakeProvider()) as gate:
        answer = gate.ask("/openapi.json", method="GET")
        assert answer.status == 200 and answer.json["openapi"] == "3.1.0"
        described = {path: {name.upper() for name in item} for path, item in answer.json["paths"].items()}
        served = {each.path: set(each.methods or ()) - {"HEAD"} for each in gate.app.routes}
        assert described == {path: methods for path, methods in served.items() if path not in _APART}
