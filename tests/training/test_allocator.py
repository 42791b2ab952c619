"""One heap for all threads, where the C library is glibc: counted by the library itself."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, threading
from convnn.training import allocator
if {one_heap}: assert allocator.one_heap() and allocator.keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.fdopen.argtypes = [ctypes.c_size_t], [ctypes.c_int, ctypes.c_char_p]
libc.malloc_info.argtypes, libc.fflush.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
barrier = threading.Barrier(2)
thread = threading.Thread(target=lambda: (libc.malloc(1 << 20), barrier.wait()))
thread.start(); barrier.wait(); thread.join()
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(("one_heap", "heaps"), [(True, 1), (False, 2)])
def test_a_thread_has_a_heap_of_its_own_unless_told(one_heap, heaps):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(one_heap=one_heap)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("<heap nr=") == heaps
