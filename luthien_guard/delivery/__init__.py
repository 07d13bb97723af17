"""Records on their way to sinks: numbered per exchange, never in the way of traffic, every drop counted.

recorder -> Delivery -> sinks (at once, in the traffic's task: memory, tracing)
                     -> Journal (a thread: hash chain, batches, group commit) -> the store, or the spool before it
"""

from __future__ import annotations

from luthien_guard.delivery.delivery import Delivery
from luthien_guard.delivery.recorder import Recorder

__all__ = ["Delivery", "Recorder"]
