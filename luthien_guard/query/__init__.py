"""Asking what happened: calls, their events, what was changed and by whom, whether the record is whole."""

from __future__ import annotations

from luthien_guard.query.audit import Finding, verify
from luthien_guard.query.diff import Change, Diff, diff_of
from luthien_guard.query.service import Query

__all__ = ["Change", "Diff", "Finding", "Query", "diff_of", "verify"]
