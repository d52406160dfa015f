"""Freed memory stays with the process, so that the next batch finds it instead of new pages.

glibc gives blocks of 32 MiB and more back to the kernel as soon as they are freed. The next batch's come back
as pages of 4 KiB, which the kernel fills with zeros one by one while a single thread waits for it.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library's malloc reuse what is freed, large blocks too; False where it is not glibc's.

    For a process that computes batch after batch on the CPU, in its main thread (other threads' arenas have
    64 MiB and go on as before). From then on it holds what its largest batch took, and a sixth more, as
    blocks do not always fit again: docs/results.md has what that is worth.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
