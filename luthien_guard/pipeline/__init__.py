"""What moves a response through its decisions: two lanes, one order, and the deadlines over both."""

from luthien_guard.pipeline.beside import Beside, beside
from luthien_guard.pipeline.deadlines import Deadlines, Expiry, total_expiry
from luthien_guard.pipeline.in_time import OutOfTime, in_time, rest_in_time
from luthien_guard.pipeline.lanes import Lanes
from luthien_guard.pipeline.signal import Signal
from luthien_guard.pipeline.turn import Turn

__all__ = [
    "Beside",
    "Deadlines",
    "Expiry",
    "Lanes",
    "OutOfTime",
    "Signal",
    "Turn",
    "beside",
    "in_time",
    "rest_in_time",
    "total_expiry",
]
