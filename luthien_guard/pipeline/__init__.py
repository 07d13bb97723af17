"""What moves a response through its decisions: two lanes, one order, and the deadlines over both."""

from luthien_guard.pipeline.alarm import Limit, limit
from luthien_guard.pipeline.beside import Beside, beside
from luthien_guard.pipeline.deadlines import Deadlines, Expiry, total_expiry
from luthien_guard.pipeline.in_time import OutOfTime, in_time, rest_before
from luthien_guard.pipeline.lanes import Lanes
from luthien_guard.pipeline.signal import Signal
from luthien_guard.pipeline.turn import Turn

__all__ = [
    "Beside",
    "Deadlines",
    "Expiry",
    "Lanes",
    "Limit",
    "OutOfTime",
    "Signal",
    "Turn",
    "beside",
    "in_time",
    "limit",
    "rest_before",
    "total_expiry",
]
