"""The end of a run or a followed sweep: a notification, and once the command of --on-finish."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from convnn.errors import Exit, UserError
from convnn.events import SCHEMA
from convnn.json_values import json_text
from convnn.terminal.console import say

TIMEOUT = 300.0  # seconds that the command may take
AT_THE_KEYBOARD = (Exit.INTERRUPTED, Exit.HUNG_UP)  # the person who ended it is there, or the terminal is not


@dataclass
class EndHooks:
    """What to do at the end of a command that began now."""

    command: str | None = None  # of a shell
    notifies: bool = True
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.command is not None and not self.command.strip():
            raise UserError("--on-finish is empty", key="on_finish", fix="give a shell command")

    def call(self, message: str, code: int, document: Callable[[], dict[str, Any]], **variables: str) -> None:
        """Notify of what took long, then run the command; nothing that fails here raises."""
        from convnn.terminal.notification import NOTABLE_SECONDS, notify

        if self.notifies and code not in AT_THE_KEYBOARD and time.monotonic() - self.start >= NOTABLE_SECONDS:
            notify(message)
        if self.command is None:
            return
        try:
            text = json_text({"schema": SCHEMA, **document()}, indent=2) + "\n"
            _run_command(self.command, text.encode("utf-8", "backslashreplace"), variables)
        except (OSError, UserError, ValueError, KeyboardInterrupt) as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            say(f"warning: --on-finish: {reason}")


def _run_command(command: str, document: bytes, variables: dict[str, str]) -> None:
    """Run a shell command with the document on stdin; what it prints goes to stderr, as stdout is for data.

    It has a process group of its own, which ends with it where it is interrupted or takes too long.
    """
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=2,
        env=os.environ | {f"CONVNN_{name}": value for name, value in variables.items()},
        process_group=0,
    )
    try:
        process.communicate(document, TIMEOUT)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            say(f"warning: the command of --on-finish did not end within {TIMEOUT:.0f} s and was killed")
            return
        raise
    if process.returncode > 0:
        say(f"warning: the command of --on-finish ended with exit code {process.returncode}")
    elif process.returncode < 0:
        say(f"warning: the command of --on-finish ended with signal {-process.returncode}")
