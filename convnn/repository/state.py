"""The state of the code that a run is trained with, read by a child process of limited time and memory."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from convnn.errors import UserError
from convnn.safe_path import python_module

TIMEOUT = 30.0  # seconds
DIFF = "code.diff"  # in a run's directory


@dataclass(frozen=True)
class CodeRecord:
    """The fields of `events.CodeState` and the text of `code.diff`, or why there are none."""

    state: dict[str, Any] | None = None
    diff: bytes = b""
    warning: str | None = None


def check_extra() -> None:
    """Raise UserError where the library that reads repositories is not installed."""
    if find_spec("dulwich") is None:
        message = "--record_code needs Dulwich, which reads git repositories: it is not installed"
        raise UserError(message, key="record_code", fix="pip install 'convnn[code]'")


def read_code() -> CodeRecord:
    """Compare the working tree of the current directory with its commit; what fails is a warning in the result."""
    try:
        ended = subprocess.run(
            python_module("convnn.repository.diff"), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return CodeRecord(warning=f"the state of the code is not recorded: it took over {TIMEOUT:.0f} s")
    except OSError as error:
        return CodeRecord(warning=f"the state of the code is not recorded: {error}")
    if ended.returncode:
        lines = ended.stderr.decode("utf-8", "replace").splitlines()
        reason = lines[-1] if lines else f"its process ended with {ended.returncode}"
        return CodeRecord(warning=f"the state of the code is not recorded: {reason}")
    state, _, diff = ended.stdout.partition(b"\n")
    return CodeRecord(json.loads(state), diff)
