"""Commands of `convnn` in processes that outlive the one that starts them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from convnn.safe_path import python_module


def start_detached(
    words: Sequence[str], root: Path, output: IO[bytes], slots: int | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start a command on a runs folder, detached from the terminal and its signals (setsid).

    `output` takes what it prints, `options` are further ones of `Popen`.
    """
    flags = ["--runs", str(root)]
    if slots is not None:
        flags += ["--slots", str(slots)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
    return subprocess.Popen(python_module("convnn", *words, *flags), start_new_session=True, **(streams | options))
