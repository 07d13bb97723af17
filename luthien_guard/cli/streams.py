"""Standard output as it comes: closed, full, or unable to write every character. And what the system refuses, in one line."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from typing import Any

__all__ = ["refused", "standard_streams"]


@contextlib.contextmanager
def standard_streams() -> Generator[None]:
    """Around all of a command. An OSError that no command expected ends the program: with code 2 where it is about a file,
    with 1 where the output cannot be written."""
    _prepare()
    try:
        try:
            yield
        finally:  # here, where it can be told; at the interpreter's end it could not
            sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)  # whoever reads it has seen enough
        sys.exit(1)
    except OSError as error:
        _end(error)


def refused(error: OSError) -> str:
    """What the system says, and about which file."""
    says = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {says}" if error.filename is not None else says


def _prepare() -> None:
    if sys.stdout is None:  # `>&-`: whoever closed it wants to see nothing
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- for as long as the process runs
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _end(error: OSError) -> None:
    from luthien_guard.cli.terminal import fail

    about_a_file = error.filename is not None
    if not about_a_file:
        _drop(sys.stdout)
    with contextlib.suppress(OSError):  # standard error may be the one that is full
        fail(refused(error), 2 if about_a_file else 1)
    _drop(sys.stderr)
    sys.exit(1)


def _drop(stream: Any) -> None:
    """What it still holds goes nowhere: the interpreter would try once more, and say that it cannot."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
