"""Commands of `convnn` in processes that outlive the one that starts them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from convnn.safe_path import python_module

POLL_SECONDS = 0.5
RETRY_SECONDS = 10.0  # after the disk refused something


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


def serve(step: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Call `step` again and again until it returns False; later where the disk refuses something, and say so once."""
    refused = ""
    while True:
        try:
            if not step():
                return
            refused = ""
        except OSError as error:  # a full disk may have room again
            if str(error) != refused:
                refused = str(error)
                say(f"warning: {refused}; trying again every {RETRY_SECONDS:.0f} s")
            time.sleep(RETRY_SECONDS)
        time.sleep(POLL_SECONDS)
