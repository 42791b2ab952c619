"""Where a run goes on: the newest checkpoint that verifies, and what the process takes over from it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from convnn.config.diff import config_diff
from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError
from convnn.runs.history import History
from convnn.runs.run import EVENTS, Run
from convnn.training.state import Position, StateDict
from convnn.worker import checkpoint
from convnn.worker.checkpoint import Checkpoint

MAX_THREADS = 1024  # as many as the option takes


@dataclass
class ResumePoint:
    """The checkpoint that a run goes on from, and the warnings about finding it."""

    checkpoint: Checkpoint
    warnings: list[str]

    @property
    def state(self) -> StateDict:
        return self.checkpoint.state

    @property
    def position(self) -> Position:
        return Position.from_state_dict(self.state.plain["position"])

    @property
    def machine(self) -> dict[str, Any]:
        """What `TrainState.machine` gave when the checkpoint was written, as far as the checkpoint holds it."""
        machine = self.state.plain.get("machine")
        return {"processes": 1, **(machine if isinstance(machine, dict) else {})}

    def release_tensors(self) -> int:
        """Free the memory of the tensors once a trainer has loaded them; return its bytes."""
        size = self.state.nbytes
        self.checkpoint = Checkpoint(self.checkpoint.path, StateDict({}, None, self.state.plain))
        return size

    def with_saved_threads(self, config: RunConfig) -> RunConfig:
        """Return a configuration that leaves the number of threads open with that of the checkpoint.

        It decides last bits, and a Slurm job may get another number of CPUs each time it starts.
        """
        if self.state.begins_fork or config.runtime.threads:
            return config
        threads, processes = self.machine.get("threads"), self.machine["processes"]
        if type(threads) is not int or type(processes) is not int or not 0 < threads * processes <= MAX_THREADS:
            return config  # of a run on a GPU
        return config.with_values({"runtime.threads": threads * processes})


def find_resume_point(run: Run, config: RunConfig, history: History) -> ResumePoint | None:
    """Return the newest checkpoint that verifies, None where none was written yet.

    Raises UserError where it may not be resumed from.
    """
    newest, warnings = checkpoint.recover_newest(run.path)
    if newest is None:
        if any(mark.kind == "saved" for mark in history.marks):
            fix = f"train it again as a new run: convnn run {shlex.quote(str(run.config_path))}"
            raise UserError(f"the checkpoints of {run.name} have vanished", Exit.STORAGE, fix=fix)
        return None
    if not newest.state.begins_fork:
        saved_config = newest.state.plain.get("config")
        if isinstance(saved_config, dict) and (problems := config_diff(saved_config, config)):
            problem = Problem(f"{run.config_path} was changed since the checkpoint", fix="undo that")
            raise UserError([problem, *problems])
        saved_bytes = newest.state.plain.get("history_bytes")
        present_bytes = run.events_path.stat().st_size if run.events_path.exists() else 0
        if isinstance(saved_bytes, int) and present_bytes < saved_bytes:
            missing = saved_bytes - present_bytes
            warnings.append(f"{EVENTS} has lost {missing} of the {saved_bytes} bytes that it had at the checkpoint")
    _repair_pointers(run, newest)
    return ResumePoint(newest, warnings)


def _repair_pointers(run: Run, newest: Checkpoint) -> None:
    """Point `last` at the newest checkpoint, and `best` if it is: a kill may have come between write and pointer."""
    if checkpoint.read_pointer(run.path, "last") != newest.path.name:
        checkpoint.write_pointer(run.path, "last", newest.step)
    best, position = newest.state.plain.get("best"), newest.state.plain.get("position")
    if isinstance(best, dict) and isinstance(position, dict) and position.get("step") == 0:
        epoch = best.get("epoch")
        is_best = isinstance(epoch, int) and epoch + 1 == position.get("epoch")  # written at the end of that epoch
        if is_best and checkpoint.read_pointer(run.path, "best") != newest.path.name:
            checkpoint.write_pointer(run.path, "best", newest.step)
