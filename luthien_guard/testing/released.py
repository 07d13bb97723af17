"""When the client had what: an answer that left while upstream was still speaking."""

from __future__ import annotations

from luthien_guard.testing.exchange import Played
from luthien_guard.testing.reading import read
from luthien_guard.testing.transcript import Transcript

__all__ = ["had_before"]


def had_before(run: Played, earlier: str, later: str) -> bool:
    """The client had `earlier` when upstream had not yet said `later`. Raises AssertionError where it never says so."""
    if later not in _everything(run.upstream.transcript):
        raise AssertionError(f"{run.label}: upstream never says {later!r}")
    said = _said_at(run, later)
    had = b"".join(data for fed, data in run.timeline if fed < said)
    return earlier in _everything(read(had, run.wire_format, stream=True))


def _said_at(run: Played, text: str) -> int:
    """The end of the frame with which upstream has said it; behind everything, where it was stopped before."""
    sent, at = run.upstream.sent, 0
    while text not in _everything(read(sent[:at], run.wire_format, stream=True)):
        at = sent.find(b"\n\n", at) + 2
        if at < 2:
            return len(sent) + 1
    return at


def _everything(transcript: Transcript) -> str:
    """All that deltas say; a responses client reads texts before their items are done, so take those too."""
    calls = "".join(each.name + each.arguments for each in transcript.tool_calls)
    return "\n".join((transcript.text, transcript.reasoning, transcript.refusal, calls, transcript.heard))
