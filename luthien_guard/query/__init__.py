"""Asking what happened: calls, their events, what was changed and by whom, whether the record is whole."""

from __future__ import annotations

from luthien_guard.query.audit import Finding, Report, audit, verify
from luthien_guard.query.change import Change, Diff
from luthien_guard.query.diff import diff_of
from luthien_guard.query.service import Query
from luthien_guard.query.words import Piece, pieces, unified

__all__ = [
    "Change",
    "Diff",
    "Finding",
    "Piece",
    "Query",
    "Report",
    "audit",
    "diff_of",
    "pieces",
    "unified",
    "verify",
]
