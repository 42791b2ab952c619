"""A Python module in a child process, awaited while the app goes on; it ends with the task that waits for it."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

from convnn.errors import UserError
from convnn.safe_path import python_module
from convnn.text import last_message


class ChildResult(NamedTuple):
    """What a child process wrote, and its exit code."""

    out: str
    err: str
    code: int

    @property
    def cause(self) -> str:
        """The problems that a command with --json refused for, with their fixes, else the last line of its messages."""
        try:
            problems = json.loads(self.out)["error"]["problems"]
            return "; ".join(
                f"{problem['message']} ({problem['fix']})" if problem["fix"] else problem["message"]
                for problem in problems
            )
        except (ValueError, KeyError, TypeError):
            return last_message(self.err) or f"exit code {self.code}"


async def run_module(module: str, *arguments: str, stdin: str = "", timeout: float | None = None) -> ChildResult:
    """Run `python -m MODULE ARGUMENTS` to its end. Raises TimeoutError after `timeout` seconds; the child is killed."""
    child = await asyncio.create_subprocess_exec(
        *python_module(module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(stdin.encode()), timeout)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return ChildResult(out.decode(errors="replace"), err.decode(errors="replace"), child.returncode)


async def run_command(*arguments: str, failure: str = "") -> str:
    """Run a command of `convnn` with --json and return its output. Raises UserError: `failure`, and its cause."""
    child = await run_module("convnn", *arguments, "--json")
    if child.code != 0:
        raise UserError(failure + child.cause)
    return child.out
