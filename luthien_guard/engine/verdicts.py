"""Verdicts in flight: who said what, what the client is told, and the short memory for repeated calls."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from luthien_guard.events import ToolCall
from luthien_guard.policy import Abort, Block, Policy, Retry

__all__ = ["Intervention", "Stop", "VerdictCache", "message_for", "message_for_call"]


@dataclass(frozen=True, slots=True)
class Intervention:
    """A verdict and the policy that spoke it; `failure` when it speaks because the policy failed."""

    policy: str
    verdict: Block | Abort | Retry
    failure: bool = False


class Stop(Exception):
    """An intervention that ends the answer: unwinds to whoever took the chunk."""

    def __init__(self, intervention: Intervention) -> None:
        super().__init__(intervention.policy)
        self.intervention = intervention


def message_for(intervention: Intervention) -> str:
    """What the client reads where the answer was blocked. The reason stays in the record: it may quote what was
    blocked."""
    return _own(intervention) or f"⛔ Blocked by the policy {intervention.policy}."


def message_for_call(intervention: Intervention, call: ToolCall, known_tools: Iterable[str]) -> str:
    """What stands in the place of a blocked call. Its name is the model's own text: it is only repeated when it is
    the name of a tool that the request offered."""
    name = f"`{call.name}` " if call.name in known_tools else ""
    return _own(intervention) or f"⛔ The tool call {name}was blocked by the policy {intervention.policy}."


def _own(intervention: Intervention) -> str | None:
    """The policy's words. Half of a surrogate pair, which no encoding of ours takes, becomes a question mark."""
    if isinstance(intervention.verdict, Retry) or intervention.verdict.message is None:
        return None
    return intervention.verdict.message.encode("utf-8", "replace").decode()


class VerdictCache:
    """Blocked calls, remembered for a short while by policy and content: clients repeat themselves, streamed and
    then not, and must get the same verdict cheaply; and nobody gets a second try at a judge that sometimes errs.

    A policy is known by itself, not by its name: in another set, or after a new configuration, the same name may stand
    for another threshold."""

    SIZE: Final = 1024

    def __init__(self) -> None:
        # with the policy: as long as its verdict is here, nothing else can have its id
        self._found: OrderedDict[bytes, tuple[float, Block | Abort, Policy]] = OrderedDict()

    def get(self, policy: Policy, call: ToolCall, now: float) -> Block | Abort | None:
        entry = self._found.get(_key(policy, call))
        if entry is None or now >= entry[0]:
            return None
        return entry[1]

    def put(self, policy: Policy, call: ToolCall, verdict: Block | Abort, until: float) -> None:
        key = _key(policy, call)
        self._found.pop(key, None)  # not moved to the end: another thread may have forgotten it meanwhile
        self._found[key] = (until, verdict, policy)
        while len(self._found) > self.SIZE:
            self._found.popitem(last=False)


def _key(policy: Policy, call: ToolCall) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (str(id(policy)), call.kind, call.name, call.arguments):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.digest()
