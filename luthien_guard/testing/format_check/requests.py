"""Requests are read strictly and written back to the byte."""

from __future__ import annotations

import json

from luthien_guard.errors import WireError
from luthien_guard.testing.format_check.codec import check
from luthien_guard.wire.format import WireFormat

__all__ = ["check_malformed", "check_request"]

_MALFORMED = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"nonsense",
    b'{"model":"a","model":"b"}',
    b'{"model":NaN}',
    b'{"model":"\\ud800"}',
    b'{"model":1e400}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{}",
    b"{} {}",
    b'{"a":' * 200 + b"1" + b"}" * 200,
)


def check_request(format: WireFormat, body: bytes) -> None:
    request = format.read_request(body)
    check(request.wire_format == format.name, f"the request says it is {request.wire_format!r}")
    same = format.write_request(body, request, request)
    check(same == body, f"an unchanged request was rewritten:\n  {body[:200]!r}\n  {same[:200]!r}")
    changed = request.replace(model="another-model")
    left = json.loads(format.write_request(body, request, changed))
    wanted = {**json.loads(body), "model": "another-model"}
    check(left == wanted, f"changing the model changed other things: {left}")


def check_malformed(format: WireFormat) -> None:
    for body in _MALFORMED:
        try:
            request = format.read_request(body)
        except WireError:
            continue
        raise AssertionError(f"{format.name}: read_request accepts {body[:60]!r} as {request.raw!r}")
