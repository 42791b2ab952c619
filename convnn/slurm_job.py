"""The Slurm job of this process, and what `squeue` says of any job. Without Slurm there is no job, and nothing to ask.

Jobs are named as Slurm's commands take them: "12", or "12_3" for element 3 of an array. (SLURM_JOB_ID of the last
element of an array is the number of the whole array, which `scontrol requeue` would requeue.)
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convnn.errors import Exit, Problem, UserError

JOB_ID = re.compile(r"[0-9]{1,12}(_[0-9]{1,9})?")
FIRST_NODE = re.compile(r"([^,\[]+)(?:\[([0-9]+)[^\]]*\]([^,\[]*))?")  # of a list: "gpu[03-05,9]-ib,login1"
FIRST_PORT, PORTS = 20_000, 12_000  # below those that systems give to clients
TIMEOUT = 30.0  # seconds for an answer of the controller
FIELDS = ("JobArrayID", "State", "StartTime", "EndTime", "PreemptTime", "RestartCnt", "Command")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")


class SlurmError(UserError):
    """Slurm does not answer, or refuses."""


class NoSlurmError(SlurmError):
    """The commands of Slurm are not on this machine."""


@dataclass(frozen=True)
class JobState:
    """A job that is in the queue of Slurm. Times are in seconds since 1970, None where Slurm has none."""

    state: str  # Slurm's word: "PENDING", "RUNNING", "COMPLETING"
    start: float | None = None
    end: float | None = None  # of its time limit
    preempted: float | None = None
    restarts: int = 0
    script: str = ""  # path of what was submitted

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING

    @property
    def was_preempted(self) -> bool:
        """Whether it is preempted since its latest start."""
        return self.preempted is not None and self.preempted >= (self.start or 0.0)


@dataclass(frozen=True)
class JobStep:
    """The tasks that one `srun` started, of which this process is one."""

    rank: int
    tasks: int
    local_rank: int  # among those on this node
    node: str  # of rank 0
    port: int  # at which they meet there


def current_step() -> JobStep | None:
    """Return the step of several tasks that this process is a part of; None outside of one."""
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_ID", "SLURM_JOB_ID")
    numbers = [os.environ.get(name, "") for name in names]
    nodes = FIRST_NODE.match(os.environ.get("SLURM_STEP_NODELIST", ""))
    if nodes is None or not all(re.fullmatch(r"[0-9]{1,12}", number) for number in numbers):
        return None
    rank, tasks, local_rank, step, job = map(int, numbers)
    if tasks == 1 or rank >= tasks:
        return None
    node = "".join(part or "" for part in nodes.groups())
    return JobStep(rank, tasks, local_rank, node, FIRST_PORT + (64 * job + step) % PORTS)


def current_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the job that this process is a part of; None outside of one."""
    array, element = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{element}" if array and element else environment.get("SLURM_JOB_ID", "")
    return job if JOB_ID.fullmatch(job) else None


def current_restarts() -> int:
    """Return how often the job of this process was started again; 0 outside of one."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(restarts) if restarts.isdecimal() else 0


def own_jobs() -> dict[str, JobState]:
    """Return the states of all jobs of this user that are in the queue. Raises SlurmError."""
    return _squeue("--me")


def job_state(job: str) -> JobState | None:
    """Return the state of a job; None for one that ended lately.

    Raises SlurmError, which says nothing about the job, where Slurm cannot be asked or does not know it: Slurm forgets
    a job some minutes after its end, and that of another cluster knows none of this one.
    """
    if not JOB_ID.fullmatch(job):
        raise SlurmError(f"{job!r} is no number of a job", Exit.FAILED)
    return _squeue(f"--jobs={job.partition('_')[0]}").get(job)


def requeue(job: str) -> None:
    """Put a running job back into the queue, which ends its processes. Raises SlurmError."""
    run_command(["scontrol", "requeue", job])


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended are passed over. Raises SlurmError."""
    if jobs:
        run_command(["scancel", "--quiet", *jobs])


def max_array_size() -> int | None:
    """Return the first number that no element of an array can have on this cluster; None where it does not say."""
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", run_command(["scontrol", "show", "config"]), re.MULTILINE)
    return None if match is None else int(match[1])


def run_command(words: Sequence[str], *, text: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return what a command of Slurm prints; `text` is its stdin. Raises SlurmError with what it says otherwise."""
    try:
        completed = subprocess.run(
            words,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            env=dict(environment),
        )
    except FileNotFoundError as error:
        fix = "run this on a machine with Slurm's commands, such as the login node of the cluster"
        raise NoSlurmError(Problem(f"there is no {words[0]} on this machine", fix=fix), Exit.FAILED) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{words[0]} does not answer within {TIMEOUT:.0f} s", Exit.FAILED) from error
    except OSError as error:
        raise SlurmError(f"{words[0]} cannot be started: {error.strerror}", Exit.FAILED) from error
    if completed.returncode:
        raise SlurmError(completed.stderr.strip() or f"{words[0]} ended with {completed.returncode}", Exit.FAILED)
    return completed.stdout or completed.stderr  # `sbatch --test-only` answers on stderr


def _squeue(selection: str) -> dict[str, JobState]:
    # every field has a separator of its own, and no width; a path stands last, as it may hold the separator
    format = ",".join(f"{field}:{'|' if field != FIELDS[-1] else ' '}" for field in FIELDS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}  # filters
    environment["SLURM_TIME_FORMAT"] = "%s"  # seconds since 1970
    words = ["squeue", "--noheader", "--array", selection, f"--Format={format}"]
    states: dict[str, JobState] = {}
    for line in run_command(words, environment=environment).splitlines():
        name, *values = line.removesuffix(" ").split("|", len(FIELDS) - 1)
        if len(values) == len(FIELDS) - 1:
            states[name] = _parse_state(*values)
    return states


def _parse_state(state: str, start: str, end: str, preempted: str, restarts: str, script: str) -> JobState:
    return JobState(
        state=state,
        start=_time(start),
        end=_time(end),
        preempted=_time(preempted),
        restarts=int(restarts) if restarts.isdecimal() else 0,
        script=script,
    )


def _time(text: str) -> float | None:
    return float(text) if text.isdecimal() else None  # "N/A"
