"""What a store promised, beside what it gave."""

from __future__ import annotations

__all__ = ["same"]


def same(promise: str, found: object, wanted: object) -> None:
    assert found == wanted, f"{promise}: expected {wanted!r}, found {found!r}"[:2000]
