"""What moves a response through its decisions: two lanes, one order, and the deadlines over both."""

from luthien_guard.pipeline.deadlines import Deadlines, Expiry
from luthien_guard.pipeline.lanes import Lanes

__all__ = ["Deadlines", "Expiry", "Lanes"]
