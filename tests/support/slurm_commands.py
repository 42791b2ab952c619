"""Commands that answer as those of Slurm do and write down how they are called, where no cluster is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convnn.runs import slurm_jobs


class SlurmCommands:
    """`squeue`, `scontrol`, `scancel` and `sbatch` first on the path; `squeue` lists `jobs`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        self.list_jobs()
        for name in ("squeue", "scontrol", "scancel"):
            answer = f'cat "{folder}/jobs"' if name == "squeue" else ":"
            self._write(name, f'echo "{name} $*" >> "{folder}/calls"\n{answer}\n')
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setattr(slurm_jobs, "_listing", slurm_jobs._Listing())

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(f"#!/bin/sh\n{text}")
        (self._folder / name).chmod(0o755)

    def list_jobs(
        self,
        *jobs: tuple[str, str, object],
        preempted: int | None = None,
        restarts: int = 0,
        end: int = 90000000000,
    ) -> None:
        """Let `squeue` list these jobs: name, state and script."""
        lines = [
            f"{name}|{state}|1000|{end}|{preempted or 'N/A'}|{restarts}|{script} \n" for name, state, script in jobs
        ]
        (self._folder / "jobs").write_text("".join(lines))

    def stop_answering(self) -> None:
        """Let `squeue` fail, as while the controller starts anew, until jobs are listed again."""
        (self._folder / "jobs").unlink()

    def calls(self, name: str) -> list[str]:
        """The words of each call of a command so far."""
        path = self._folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]
