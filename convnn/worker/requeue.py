"""Put the Slurm job of this process back into the queue where its run was ended early and can go on.

| what ended the run                               | exit code | state of the job           | requeued |
|--------------------------------------------------|-----------|----------------------------|----------|
| the time limit of the run, or USR1 or USR2       | 75        | RUNNING                    | yes      |
| preemption: TERM at the start of its grace time  | 143       | RUNNING, PreemptTime set   | yes      |
| `scancel`, or a person's `scontrol requeue`      | 143       | COMPLETING                 | no       |

A blind requeue would bring a canceled job back; without one, Slurm takes a preempted job that ends in time for done.
"""

from __future__ import annotations

from convnn import slurm_job
from convnn.errors import Exit
from convnn.events import Finished, Saved
from convnn.runs.event_log import EventReader
from convnn.runs.run import Run
from convnn.slurm_job import SlurmError

MAX_RESTARTS = 3  # in a row without a new checkpoint
ENDING = ("COMPLETING", "CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED")


def requeue_job(run: Run, code: int) -> str | None:
    """Requeue the job of this process after its run ended with an exit code, if it is one to requeue.

    Returns what was done, in words; None where the run ended by itself or there is no job. The state of the run has to
    be on disk: the requeue ends this process.
    """
    job = slurm_job.current_job()
    if job is None or code not in (Exit.TIME_LIMIT, Exit.TERMINATED):
        return None
    try:
        state = slurm_job.job_state(job)
        if state is None or state.state in ENDING or (code == Exit.TERMINATED and not state.was_preempted):
            return f"job {job} was canceled or requeued by a person: it is left as it is"
        restarts = ends_without_checkpoint(run) - 1
        if not run.has_checkpoint:  # a process that ended during its start may have written nothing
            restarts = max(restarts, state.restarts)
        if restarts >= MAX_RESTARTS:
            return f"job {job} was restarted {MAX_RESTARTS} times in a row without a new checkpoint: it is not requeued"
        slurm_job.requeue(job)
    except SlurmError as error:
        return f"warning: job {job} could not be requeued: {error}"
    return f"job {job} is back in the queue"


def ends_without_checkpoint(run: Run) -> int:
    """Return how many processes of a run ended since its latest checkpoint was written."""
    ends = 0
    try:
        events = EventReader().read(run.events_path, steps=False)[0]
    except OSError:
        return 0
    for event in events:
        if isinstance(event, Saved):
            ends = 0
        elif isinstance(event, Finished):
            ends += 1
    return ends
