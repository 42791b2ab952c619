"""Keep the C allocator from giving memory back between steps: on CPU, page faults cost as much as the arithmetic."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_TRIM_THRESHOLD and so on of glibc's malloc.h
_NEVER = 2**31 - 1  # bytes


def keep_memory() -> bool:
    """Take large blocks from the heap and keep it; returns whether this C library can (glibc)."""
    return _set(_MMAP_THRESHOLD, _NEVER) and _set(_TRIM_THRESHOLD, _NEVER)


def one_heap() -> bool:
    """Let threads that start from now on share the main thread's heap; returns whether this C library can (glibc).

    glibc gives a thread a heap of its own, whose parts hold 64 MiB: larger blocks are given back on every free, and a
    wide network trained on such a thread at four fifths of its speed.
    """
    return _set(_ARENA_MAX, 1)


def release_memory() -> None:
    """Give the free memory of the heap back to the system, where this C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def _set(option: int, value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    return mallopt is not None and bool(mallopt(option, value))
