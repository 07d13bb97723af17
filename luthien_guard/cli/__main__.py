"""`python -m luthien_guard.cli`."""

from __future__ import annotations

from luthien_guard.cli import main

if __name__ == "__main__":
    main(prog_name="luthien-guard")
