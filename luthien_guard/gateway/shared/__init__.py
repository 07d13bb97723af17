"""What several workers have in common: the buckets of the keys, the keys, and which policies run where.

One file per service, each opened by URL. A driver is imported when a URL asks for it.
"""

from __future__ import annotations

from luthien_guard.gateway.shared.service import KeyTable, Shared

__all__ = ["KeyTable", "Shared"]
