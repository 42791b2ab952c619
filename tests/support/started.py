"""The real command in an interpreter of its own, detached from the terminal (setsid)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from support.processes import Result, set_signals, until


class Started:
    """`python -m convnn ARGUMENTS` in a folder, its runs in `runs` there; `ignored` signals are so at its start."""

    def __init__(self, *arguments: object, cwd: Path, ignored: Collection[int] = (), **environment: str | None) -> None:
        variables = os.environ | {"CONVNN_RUNS": str(cwd / "runs"), "OMP_NUM_THREADS": "1"}
        for name, value in environment.items():
            variables.pop(name, None)
            if value is not None:
                variables[name] = value
        self.out, self.err = cwd / ".out", cwd / ".err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "convnn", *map(str, arguments)],
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=lambda: set_signals(ignored),
            )

    def signal(self, number: int, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def until_printed(self, text: str) -> None:
        until(lambda: text in self.printed() or self.process.poll() is not None)

    def printed(self) -> str:
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in (self.out, self.err))

    def wait(self, seconds: float = 120) -> Result:
        try:
            code = self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return Result(code, self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))

    def data_workers(self) -> list[int]:
        """The processes that decode images: children of the fork server, which is a child of the command."""
        servers = list(_children(self.process.pid))
        return [worker for server in servers for worker in _children(server)]


def _children(pid: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            yield int(path.parent.name)
