"""The time limit of a process that trains: so many minutes, or what is left of its Slurm job."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from convnn import slurm_job
from convnn.errors import UserError

AUTO = "auto"
LEAST_RESERVE = 30.0  # seconds before the end of a job: Slurm looks every half minute, and a step has to end
SHORTEST_JOB = 120.0  # seconds of the whole job: a shorter one may have no time left when it has started
CHECKPOINTS = 2  # times that the latest checkpoint took are left for the last one: the disk may be slower then


@dataclass(frozen=True)
class TimeLimit:
    """When to stop; a `hard` limit ends the process, so that the last checkpoint has to be written before it."""

    deadline: float  # of `time.monotonic`
    is_hard: bool = False

    @classmethod
    def parse(cls, text: str | None) -> TimeLimit | None:
        """Return the limit of minutes from now on, or for "auto" of the Slurm job of this process; None without one.

        Raises UserError as `check_limit` does and for a job in which nothing could ever be trained, and SlurmError
        where the end of the job is not known.
        """
        if text is None:
            return None
        job = check_limit(text)
        if job is None:
            return cls(time.monotonic() + 60 * parse_minutes(text))
        state = slurm_job.job_state(job)
        if state is None or state.end is None:
            return None
        limit = cls(time.monotonic() + state.end - time.time(), is_hard=True)
        if limit.seconds_left() <= 0 and state.start is not None and state.end - state.start <= SHORTEST_JOB:
            message = f"the Slurm job has {state.end - state.start:.0f} s: it ends before anything could be trained"
            raise UserError(message, key="slurm.time", fix="give a longer one: --sbatch time=01:00:00")
        return limit

    def seconds_left(self, checkpoint_seconds: float = 0.0) -> float:
        """Return how long to train on, where a checkpoint takes so many seconds."""
        reserve = LEAST_RESERVE + CHECKPOINTS * checkpoint_seconds if self.is_hard else 0.0
        return self.deadline - time.monotonic() - reserve


def check_limit(text: str) -> str | None:
    """Return the job that "auto" stands for, None for minutes. Raises UserError for anything else, or without a job."""
    if text != AUTO:
        parse_minutes(text)
        return None
    job = slurm_job.current_job()
    if job is None:
        message = "--max-minutes auto is what is left of a Slurm job, and this is none"
        raise UserError(message, key="max_minutes", value=text, fix="give the minutes")
    return job


def parse_minutes(text: str) -> float:
    """Return a number of minutes. Raises UserError."""
    try:
        minutes = float(text)
        if minutes >= 0 and math.isfinite(minutes):
            return minutes
    except ValueError:
        pass
    message = f"--max-minutes is {text!r}: must be minutes, at least 0, or auto"
    raise UserError(message, key="max_minutes", value=text, fix="give --max-minutes 90, or auto in a Slurm job")
