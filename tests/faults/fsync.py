"""A disk on which fsync fails, for one thread only: the kernel itself says EIO (a seccomp filter), nothing is patched."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Callable

__all__ = ["fails_here", "in_a_thread", "is_possible"]

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_FSYNC, _FDATASYNC = 74, 75  # on x86-64
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def fails_here() -> None:
    """From now on fsync fails in this thread, for ever. Raises OSError where that cannot be had."""
    steps = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_JUMP_IF_EQUAL, 1, 0, _FSYNC),
        (_JUMP_IF_EQUAL, 0, 1, _FDATASYNC),
        (_RETURN, 0, 0, _ERRNO | errno.EIO),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no seccomp filter")


def is_possible() -> bool:
    """Tried out, in a thread that ends with it."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return False
    found: list[int | None] = []

    def tries() -> None:
        try:
            fails_here()
            with tempfile.TemporaryFile() as file:
                os.fsync(file.fileno())
        except OSError as error:
            found.append(error.errno)

    in_a_thread(tries)
    return found == [errno.EIO]


def in_a_thread(work: Callable[[], object]) -> None:
    """Do it in a thread of its own, and wait."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
