"""torch brought into the process without stopping its other threads for long.

An import holds the interpreter lock while the linker binds half a gigabyte of libraries. A foreign function called
through ctypes lets the lock go, so the linker is called that way first, and the import finds the libraries bound.
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

LIBRARIES = (  # in the order in which they need one another; the first binds those of the graphics card
    ("libtorch_global_deps", os.RTLD_GLOBAL),
    ("libtorch", os.RTLD_LOCAL),
)
PYTHON_LIBRARY = "libtorch_python"  # touches Python while it is bound: that is left to the import, read ahead here


def load_ahead() -> None:
    """Bind torch's libraries, and read ahead the one bound with the lock held; missing ones are passed over."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "lib"
    dlopen = getattr(ctypes.CDLL(None), "dlopen", None)
    if dlopen is not None:
        dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
        for name, flag in LIBRARIES:
            for path in folder.glob(f"{name}.[ds]*"):  # .so or .dylib
                dlopen(os.fsencode(path), os.RTLD_NOW | flag)
    for path in folder.glob(f"{PYTHON_LIBRARY}.[ds]*"):
        _read(path)


def _read(path: Path) -> None:
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
