"""What every wire format must keep (the rules in `wire.format`), checked on your own codec."""

from __future__ import annotations

import json
from collections.abc import Sequence

from luthien_guard.testing.catalogue import ORDINARY
from luthien_guard.testing.format_check.codec import check
from luthien_guard.testing.format_check.reading import check_accounted, check_blocks, check_strange
from luthien_guard.testing.format_check.requests import check_malformed, check_request
from luthien_guard.testing.format_check.writing import (
    check_ends,
    check_identity,
    check_removed,
    check_rewritten,
)
from luthien_guard.testing.rendering import render
from luthien_guard.testing.requests import request_for
from luthien_guard.testing.script import WIRE_FORMATS
from luthien_guard.wire.format import WireFormat

__all__ = ["check_wire_format"]


def check_wire_format(
    format: WireFormat,
    *,
    streams: Sequence[bytes] | None = None,
    bodies: Sequence[bytes] | None = None,
    requests: Sequence[bytes] | None = None,
) -> None:
    """Raises AssertionError, saying which rule is broken and on which sample, unless for every sample:

    * what nobody changed leaves byte for byte, in one piece and chunk by chunk;
    * every string is accounted for: one that is not an identifier becomes a piece, wherever it stands;
    * blocks begin, speak and stop once, in this order, and repeats equal what was said;
    * reading never raises, whatever the JSON;
    * removed calls leave no trace of their arguments, rewritten text no trace of what it was;
    * made-up ends and errors say what they were given and end the stream;
    * requests are read strictly and written back to the byte.

    The samples are SSE streams, whole bodies and request bodies of this format; for the three formats of the library
    they may be left out.
    """
    known = format.name in WIRE_FORMATS
    if not known and not (streams and bodies and requests):
        raise ValueError(f"{format.name} is not one of the library's: give streams, bodies and requests")
    streams = _rendered(format.name, stream=True) if streams is None else streams
    bodies = _rendered(format.name, stream=False) if bodies is None else bodies
    check_names(format)
    for sample in requests if requests is not None else _requests(format.name):
        check_request(format, sample)
    check_malformed(format)
    for samples, stream in ((streams, True), (bodies, False)):
        for sample in samples:
            check_identity(format, sample, stream=stream)
            check_blocks(format, sample, stream=stream)
            check_accounted(format, sample, stream=stream)
            check_removed(format, sample, stream=stream)
            check_rewritten(format, sample, stream=stream)
        check_strange(format, stream=stream)
        check_ends(format, stream=stream)


def _rendered(name: str, *, stream: bool) -> list[bytes]:
    return [
        render(script, name, stream=stream).body
        for script in ORDINARY.values()
        if name in script.wire_formats
    ]


def _requests(name: str) -> list[bytes]:
    return [
        json.dumps(request_for(name, "Héllo\n", stream=stream), indent=1).encode() for stream in (True, False)
    ]


def check_names(format: WireFormat) -> None:
    check(bool(format.name), "the format has no name")
    check(format.suffix.startswith("/"), f"suffix {format.suffix!r} does not begin with a slash")
    kept = format.keepalive
    check(not kept or kept.endswith(b"\n\n"), f"the keep-alive {kept!r} is not a whole SSE frame")
