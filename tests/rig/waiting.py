"""Waiting for what another thread or process does, where no event tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


def eventually(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `look` gives once it is true; it is asked again until then. Fails when the time is over."""
    end, gate = time.monotonic() + seconds, threading.Event()
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s: {look}"
        gate.wait(0.005)
    return found
