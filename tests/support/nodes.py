"""One machine as two nodes of a cluster: a name for each, and a `flock` that the processes of the other do not see."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest

SHIM = """\
#include <errno.h>

/* A file system whose locks no other node sees: every lock is granted. With MISSING it has no locks. */
int flock(int descriptor, int operation)
{
#ifdef MISSING
    errno = ENOSYS;
    return -1;
#else
    return 0;
#endif
}
"""


def local_flock(folder: Path, *, missing: bool = False) -> dict[str, str]:
    """Return the environment of a process whose `flock` is of its node alone, or missing; skips without a compiler."""
    compiler = which("cc") or which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = folder / "flock.c", folder / "flock.so"
    source.write_text(SHIM)
    options = ["-DMISSING"] if missing else []
    subprocess.run([compiler, *options, "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}
