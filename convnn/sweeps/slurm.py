"""Arrays of Slurm: the script of one, what sbatch says of it, and its submission.

A script trains a sweep, an element a cell, or one run. What a run is comes from its files; the script holds paths and
sbatch's options alone. It is written anew before each submission, and never read.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from convnn import slurm_job
from convnn.config.schema import RunConfig
from convnn.errors import Exit, UserError
from convnn.files import write_atomic
from convnn.runs.run import Run
from convnn.runs.slurm_jobs import LOG, LOGS, RUN_ELEMENT, SCRIPT
from convnn.safe_path import python_module
from convnn.slurm_job import JOB_ID, NoSlurmError, SlurmError
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.slurm_options import REFUSED, OptionValue, directive
from convnn.text import one_line

AUTO = "auto"
KEPT_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS")
SCRIPT_TEXT = """\
#!/bin/bash
# {about}
# Written and submitted by convnn, which reads what to train from files.
{directives}

# What ends a job early, and what convnn does then, after it has saved:
#   the time limit           ends by itself before it (--max-minutes) and requeues the job (--requeue)
#   USR1, USR2 (--signal)    requeues the job
#   TERM by preemption       requeues the job
#   TERM by scancel          ends: the job stays canceled
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then
  export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun does not take it from sbatch
fi
exec srun {tasks} {command}
"""


@dataclass(frozen=True)
class ArrayJob:
    """An array to submit: its script at `script`, the output of its elements, and the command of each element."""

    name: str
    script: Path
    output: str  # a pattern of sbatch: "%4a" is the number of the element
    elements: Sequence[int]
    command: Sequence[str]  # of convnn; the number of the element stands in for ELEMENT
    about: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    slots: int | None = None  # elements that are trained at once
    processes: int = 1  # of each run: a task each

    def text(self) -> str:
        """Return the script. Raises UserError for a path that cannot stand in it."""
        folder = str(self.script.parent)
        for path in (folder, *self.command):
            if not path.isprintable() or "\\" in path:
                fix = "use a path without backslashes and control characters"
                raise UserError(f"{path!r} cannot stand in the script of a Slurm job", value=path, fix=fix)
        limit = "" if self.slots is None else f"%{self.slots}"
        own: dict[str, OptionValue] = {
            "array": f"{ranges(self.elements)}{limit}",
            "chdir": folder,
            "output": f"{folder.replace('%', '%%')}/{self.output}",
            "open-mode": "append",
            "requeue": True,
        }
        tasks: dict[str, OptionValue] = {}
        if self.processes > 1:
            if (ntasks := self.options.get("ntasks", self.processes)) not in (self.processes, str(self.processes)):
                message = f"slurm.ntasks is {ntasks}, but runtime.processes is {self.processes}: each is a task"
                raise UserError(message, key="slurm.ntasks", value=ntasks, fix="remove it")
            tasks["ntasks"] = self.processes
        directives = {"job-name": self.name, **own, **tasks, **self.options}
        words = ['"$SLURM_ARRAY_TASK_ID"' if word == ELEMENT else shlex.quote(word) for word in self.command]
        return SCRIPT_TEXT.format(
            about=self.about,
            directives="\n".join(filter(None, (directive(*item) for item in directives.items()))),
            tasks=f"--ntasks={self.processes}" + (" --kill-on-bad-exit=1" if self.processes > 1 else ""),
            command=" ".join(words),
        )


ELEMENT = "{element}"


def run_job(run: Run, options: Mapping[str, OptionValue], max_minutes: str | None, processes: int = 1) -> ArrayJob:
    """Return the array of one that trains a run, from its beginning or its newest checkpoint on."""
    return ArrayJob(
        name=run.name,
        script=run.path / SCRIPT,
        output=LOG,
        elements=[RUN_ELEMENT],
        command=python_module("convnn", "resume", f"{run.path}/", *_ending(max_minutes)),
        about=f"Trains the run {run.name}.",
        options=options,
        processes=processes,
    )


def sweep_job(
    folder: SweepFolder,
    elements: Sequence[int],
    options: Mapping[str, OptionValue],
    slots: int | None = None,
    max_minutes: str | None = None,
    processes: int = 1,
) -> ArrayJob:
    """Return the array that trains these cells of a sweep, each by so many processes."""
    return ArrayJob(
        name=folder.name,
        script=folder.path / SCRIPT,
        output=f"{LOGS}/%4a.out",
        elements=elements,
        command=cell_command(folder, ELEMENT, *_ending(max_minutes)),
        about=f"Trains the sweep {folder.name}: element N of the array is its cell N.",
        options=options,
        slots=slots,
        processes=processes,
    )


def common_processes(configs: Iterable[RunConfig]) -> int:
    """Return the number of processes of each of these runs, which one array trains; 1 without any.

    Raises UserError where they differ: every element of an array has the same tasks.
    """
    numbers = sorted({config.runtime.processes for config in configs})
    if len(numbers) > 1:
        fix = "use one value a sweep, or train it without --slurm"
        message = f"runtime.processes is {' and '.join(map(str, numbers))}: an array of Slurm has one number of tasks"
        raise UserError(message, key="runtime.processes", fix=fix)
    return numbers[0] if numbers else 1


def cell_command(folder: SweepFolder, index: int | str, *flags: str) -> list[str]:
    """Return the command that trains a cell of a sweep, wherever and however often it runs."""
    return python_module("convnn", "sweep", "train", folder.name, str(index), "--runs", str(folder.root), *flags)


def _ending(max_minutes: str | None) -> list[str]:
    return ["--plain", "--max-minutes", max_minutes or AUTO, "--requeue"]


def ranges(elements: Sequence[int]) -> str:
    """Return numbers as sbatch takes them: "1-3,7"."""
    numbers = sorted(set(elements))
    ends = [number for number, after in pairwise([*numbers, -1]) if after != number + 1]
    starts = [numbers[0], *(after for number, after in pairwise(numbers) if after != number + 1)]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def try_job(job: ArrayJob) -> str:
    """Return what sbatch says of a job, such as when it would start.

    Raises UserError where sbatch would refuse it, NoSlurmError where there is none.
    """
    answer = _sbatch(job, "--test-only", text=job.text())
    return one_line(answer.strip().removeprefix("sbatch: "))


def submit(job: ArrayJob) -> str:
    """Write the script of a job, submit it, and return its number. Raises as `try_job` does, and OSError."""
    (job.script.parent / job.output).parent.mkdir(exist_ok=True)
    write_atomic(job.script, job.text())
    answer = _sbatch(job, "--parsable", str(job.script))
    number = answer.strip().rpartition("\n")[2].partition(";")[0]  # a cluster follows where there are several
    if not JOB_ID.fullmatch(number):
        raise SlurmError(f"sbatch answers {one_line(answer)!r}, which names no job", Exit.FAILED)
    return number


def _sbatch(job: ArrayJob, *words: str, text: str | None = None) -> str:
    try:
        return slurm_job.run_command(["sbatch", *words], text=text, environment=sbatch_environment(job))
    except NoSlurmError:
        raise
    except SlurmError as error:
        _check_numbers(job)
        lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
        message = f"sbatch refuses the job: {one_line('; '.join(lines))}"
        raise UserError(message, key="slurm", fix="change [slurm], or --sbatch") from error


def _check_numbers(job: ArrayJob) -> None:
    """Raise UserError where the cluster has no elements with such high numbers."""
    with suppress(SlurmError):
        size, highest = slurm_job.max_array_size(), max(job.elements)
        if size is not None and highest >= size:
            message = f"element {highest} of the array is too high a number: MaxArraySize of this cluster is {size}"
            fix = "make several sweeps of it, by flags with fewer values and --name, or use convnn sweep commands"
            raise UserError(message, key="slurm", value=highest, fix=fix) from None


def sbatch_environment(job: ArrayJob) -> dict[str, str]:
    """Return the variables of sbatch: not those of the job that this process is in, nor those that win over the script.

    The cluster stays that of the other commands.
    """
    names = {*job.options, *REFUSED, "array-inx", "job-name"} - {"clusters"}
    set_here = {f"SBATCH_{name.upper().replace('-', '_')}" for name in names}
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT_VARIABLES or not (name in set_here or name.startswith(("SLURM_", "SRUN_")))
    }
