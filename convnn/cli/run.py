"""`convnn run`: validate a configuration and train it; or only show what would be trained, or evaluate a checkpoint."""

from __future__ import annotations

import os
import shlex
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn import startup
from convnn.cli import arguments
from convnn.cli.end_hooks import EndHooks
from convnn.cli.show import run_json
from convnn.data.catalog import data_summary
from convnn.errors import Exit, Problem, UserError
from convnn.gc_pause import gc_paused
from convnn.hardware import check_device
from convnn.presets.resolve import resolve_named
from convnn.repository.state import check_extra, read_code
from convnn.runs.marker import is_ours
from convnn.runs.run import check_output, is_run, new_run, runs_root
from convnn.slurm_job import SlurmError, current_step
from convnn.terminal.console import err, out, say
from convnn.text import escaped

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.repository.state import CodeRecord
    from convnn.runs.run import Run
    from convnn.sweeps.slurm_options import OptionValue
    from convnn.worker.time_limit import TimeLimit
    from convnn.worker.train_run import RunResult


EXAMPLES = """
convnn run quickstart
convnn run vgg11-convnn-spatial --K 5 --seed 1 --max-minutes 30
convnn run quickstart --seeds 5
convnn run quickstart --slurm --sbatch partition=gpu --sbatch gres=gpu:1
convnn run --layer Branching --dataset cifar100 --num_epochs 100 --dry-run
"""


def run(
    preset: arguments.Preset = None,
    *,
    typed: dict[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="validate, show configuration and cost, train nothing")
    ] = False,
    plain: arguments.Plain = False,
    live: arguments.Live = False,
    as_json: arguments.JsonEvents = False,
    debug: arguments.Debug = False,
    max_minutes: arguments.JobMinutes = None,
    requeue: arguments.Requeue = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="move the run in --output_dir to the trash first")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue the unfinished run in --output_dir")] = False,
    take_over: arguments.TakeOver = False,
    evaluated_run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="with --test_only: the run to evaluate", autocompletion=arguments.complete_runs
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="best|last",
            help="with --test_only: the weights to evaluate; without it the best",
            autocompletion=arguments.complete_checkpoints,
        ),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="add it to the queue, which trains in the background, and return")
    ] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="submit it as a Slurm job, and return")] = False,
    sbatch: arguments.Sbatch = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N", help="repeats, as a sweep: 5 for the seeds 0 to 4, or a list: 1,7,9"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="with --seeds: start without asking")] = False,
    record_code: Annotated[
        bool,
        typer.Option(
            "--record_code",
            help="record how the files of the current git repository differ from its commit, in code.diff",
        ),
    ] = False,
    on_finish: arguments.OnFinish = None,
    no_notify: arguments.NoNotify = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Train a configuration: the defaults, then the preset, then the flags; the later wins.

    Without a terminal, and with --plain, --json or CI set, it prints one line per epoch. The first ctrl+c stops after
    the step and leaves a run that can be resumed; a second within 3 s stops at once.
    """
    from convnn.cli.sweep_run import run_seeds, sbatch_options

    options = sbatch_options(sbatch, slurm=slurm)
    hooks = EndHooks(on_finish, not (no_notify or as_json))
    returning = {"--queue": queue, "--slurm": slurm, "--dry-run": dry_run}
    if on_finish is not None:
        arguments.refuse(returning, "--on-finish")
    if record_code:
        arguments.refuse({**returning, "--seeds": seeds}, "--record_code")
        check_extra()
    if max_minutes is not None:
        arguments.checked_limit(max_minutes, slurm=slurm)
    if seeds is not None:
        arguments.refuse(
            {
                "--resume": resume,
                "--overwrite": overwrite,
                "--take-over": take_over,
                "--run": evaluated_run,
                "--checkpoint": checkpoint,
                "--json": as_json,
                "--dry-run": dry_run,
                "--requeue": requeue,
                "--queue": slurm and queue,
                "--max-minutes": not slurm and max_minutes,
            },
            "--seeds",
        )
        return run_seeds(
            preset,
            typed,
            seeds,
            runs_root(runs),
            yes=yes,
            detach=queue,
            plain=plain,
            slurm=slurm,
            options=options,
            max_minutes=max_minutes,
            hooks=hooks,
        )
    resolved = resolve_named(preset, typed)
    config = resolved.checked()
    _check_flags(config, resume=resume, overwrite=overwrite, run=evaluated_run, checkpoint=checkpoint)
    if config.output.test_only:
        arguments.refuse({"--on-finish": on_finish, "--record_code": record_code}, "--test_only")
    if requeue and not resume:
        fix = "give --output_dir DIR --resume, too: a requeued job starts its command again"
        raise UserError("--requeue is for a command that continues its run", key="requeue", fix=fix)
    if not resume:
        arguments.refuse_without({"--take-over": take_over}, "--resume")
    if queue:
        arguments.refuse({"--resume": resume, "--overwrite": overwrite, "--max-minutes": max_minutes}, "--queue")
    if slurm:
        unusable = {"--queue": queue, "--resume": resume, "--overwrite": overwrite, "--requeue": requeue}
        unusable |= {"--json": as_json, "--dry-run": dry_run, "--test_only": config.output.test_only}
        arguments.refuse(unusable, "--slurm")
    arguments.refuse_without({"--yes": yes}, "--seeds")
    for note in resolved.notes:
        say(f"note: {note}")
    if dry_run:
        from convnn.cli.dry_run import show_plan

        return show_plan(resolved, as_json=as_json, takes_over=resume or overwrite)
    if config.output.test_only:
        from convnn.cli.evaluate import Evaluation, evaluate_checkpoint

        evaluation = Evaluation(checkpoint or "best")
        return evaluate_checkpoint(resolved, runs, evaluated_run, evaluation, as_json=as_json)
    if resolved.dataset.problem is not None:
        raise UserError(resolved.dataset.problem, Exit.DATA)
    if resolved.dataset.download is not None:
        say(f"note: {data_summary(config.data.dataset, config.data.path, resolved.dataset)}")
    if queue:
        return _queue(config, preset, runs_root(runs))
    if slurm:
        return _submit(config, runs_root(runs), options, max_minutes)
    follow_step(config)
    check_device(config.runtime.device)
    root, directory = runs_root(runs), Path(config.output.dir or "")
    is_resumed = resume and is_run(directory) and is_ours(directory)  # which needs --output_dir
    target: Run | None = None
    if is_resumed:
        target = _unfinished_run(directory, config, root)
        if target is None:
            return None
    elif config.output.dir is not None:
        check_output(directory, root, takes_over=overwrite)
    code = read_code() if record_code else None  # as it is now: loading data may take minutes
    if not as_json:
        say("loading torch ...")
    with gc_paused():
        from convnn.training import device  # torch comes in here
    device.select_device(config)
    if target is None:
        target = new_run(config, root, overwrite=overwrite)
    flags = TrainFlags(plain, live, as_json, debug, max_minutes, requeue, take_over)
    raise typer.Exit(train(target, config, hooks, flags, resume=is_resumed, code=code))


def _submit(config: RunConfig, root: Path, options: dict[str, OptionValue], max_minutes: str | None) -> None:
    """Make the run and submit the job that trains it. Raises UserError, without a run, where sbatch refuses the job."""
    from convnn.runs import trash
    from convnn.runs.run import Run
    from convnn.runs.slurm_jobs import SCRIPT
    from convnn.sweeps.queue import with_absolute_data_path
    from convnn.sweeps.slurm import run_job, submit, try_job

    processes = config.runtime.processes
    try_job(run_job(Run(root, "run"), options, max_minutes, processes))  # before it has a directory
    run = new_run(with_absolute_data_path(config), root)
    try:
        number = submit(run_job(run, options, max_minutes, processes))
    except BaseException:
        trash.discard(run.path, run.name, root)
        raise
    out().print_line(f"job {number}: {run.name}, submitted from {run.path / SCRIPT}")
    reference = shlex.quote(run.name)
    say(f"look at it with: convnn show {reference}; cancel it with: convnn stop {reference}")


def _queue(config: RunConfig, preset: str | None, root: Path) -> None:
    """Add the configuration to the queue, with a worker in the background where none serves it."""
    from convnn.cli.queue import start_worker
    from convnn.sweeps.queue import Queue, new_entry

    target = Queue(root)
    name = config.run.name or preset or f"{config.model.name}-{config.layer.type}"
    entry = new_entry(config, name)
    target.add([entry])
    start_worker(target)
    position = [queued.id for queued in target.entries()[0]].index(entry.id) + 1
    say(f"{name} is at position {position} of the queue; look at it with: convnn queue")


def follow_step(config: RunConfig | None) -> None:
    """In a task of `srun` above the first, train with that one to its end, and exit; else return.

    Without a configuration, which only the first task knows, it must be of several processes. Raises UserError where
    there is not one task for each of them.
    """
    step = current_step()
    if step is None or (config is not None and config.runtime.processes == 1):
        return
    with gc_paused():
        from convnn.worker import followers
    if config is not None:
        followers.check_tasks(config, step)
    if step.rank > 0:
        raise typer.Exit(followers.follow_step(step))


def _check_flags(config: RunConfig, *, resume: bool, overwrite: bool, run: str | None, checkpoint: str | None) -> None:
    """Raise UserError with what no field alone can say about the flags of the command."""
    test_only = config.output.test_only
    takes_over = "--resume" if resume else "--overwrite"
    problems = []
    if checkpoint is not None and checkpoint not in arguments.CHECKPOINTS:
        problems.append(arguments.unknown_choice("checkpoint", checkpoint, arguments.CHECKPOINTS))
    if (resume or overwrite) and config.output.dir is None:
        fix = "name the run's directory, or use `convnn resume RUN`"
        problems.append(Problem(f"{takes_over} needs --output_dir", fix=fix))
    if resume and overwrite:
        problems.append(Problem("--resume and --overwrite exclude each other", fix="leave one of them out"))
    if run is not None and not test_only:
        problems.append(Problem("--run is for --test_only", fix="use `convnn resume RUN` to continue a run"))
    if checkpoint is not None and not test_only:
        problems.append(Problem("--checkpoint is for --test_only", fix="leave it out"))
    if (resume or overwrite) and test_only:
        message = f"{takes_over} is for training, --test_only only evaluates"
        problems.append(Problem(message, fix="leave one of them out"))
    if problems:
        raise UserError(problems)


def _unfinished_run(directory: Path, config: RunConfig, root: Path) -> Run | None:
    """Return the run in a directory; None where it is finished, which is said.

    Raises UserError where it is of another configuration.
    """
    from convnn.config.active import active_options
    from convnn.config.diff import config_diff
    from convnn.runs.find import find_run
    from convnn.runs.resume import check_same_config

    run = find_run(f"{directory}/", root)
    recorded = active_options(run.config())
    if run.recorded_status() == "done":
        say(f"{run.name} is finished: there is nothing left to do")
        if differences := config_diff(recorded, config):
            say("warning: it was trained with another configuration than this command has")
            for problem in differences:
                say(f"  {problem.message}")
        return None
    check_same_config(run, recorded, config)
    return run


@dataclass(frozen=True)
class TrainFlags:
    """The flags that commands which train have in common, as `arguments` declares them."""

    plain: bool
    live: bool
    as_json: bool
    debug: bool
    max_minutes: str | None
    requeue: bool
    take_over: bool


def train(
    run: Run, config: RunConfig, hooks: EndHooks, flags: TrainFlags, *, resume: bool, code: CodeRecord | None = None
) -> int:
    """Train a run on this thread, shown in this terminal, report its end and return its exit code; signals stop it.

    With --requeue the Slurm job of this process is requeued where the run goes on there, also where a signal ends the
    process during its start. The hooks are for a run that has ended.
    """
    requeue_at_sudden_end = partial(_requeue_job, run)
    if flags.requeue:
        startup.before_sudden_end.append(requeue_at_sudden_end)
    with gc_paused():
        from convnn.worker.train_run import train_run
    from convnn.runs.history import History
    from convnn.runs.resume import resume_command
    from convnn.terminal.live import run_view
    from convnn.worker.signals import Command, obeyed

    commands: deque[Command] = deque()
    about = f"{config.model.name} {config.layer.type}, {config.data.dataset}"
    history = run.history() if resume else History()
    view = run_view(run.name, about, history=history, plain=flags.plain, live=flags.live, json=flags.as_json)

    def end_at_once() -> None:
        view.restore()
        with suppress(OSError):  # hung up; and no console, whose lock the main thread may hold
            line = escaped(f"ended at once; resume with: {resume_command(run, config=config)}")
            os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))

    with view, obeyed(commands.append, end_at_once):
        ended = train_run(
            run,
            config,
            show=view.show,
            history=history,
            commands=commands,
            resume=resume,
            limit=_time_limit(flags.max_minutes),
            take_over=flags.take_over,
            code=code,
        )
    if flags.requeue:
        startup.before_sudden_end.remove(requeue_at_sudden_end)
    _report_end(run, ended, config, flags.debug)
    if flags.requeue:
        _requeue_job(run, ended.code)
    if not (flags.requeue and ended.code in (Exit.TIME_LIMIT, Exit.TERMINATED)):
        status = ended.finished.status
        hooks.call(f"{run.name} {status}", ended.code, partial(run_json, run), STATUS=status, RUN=str(run.path))
    return ended.code


def _time_limit(max_minutes: str | None) -> TimeLimit | None:
    """Return the limit that a person typed, from now on; none where Slurm does not say when the job ends."""
    from convnn.worker.time_limit import TimeLimit

    try:
        limit = TimeLimit.parse(max_minutes)
    except SlurmError as error:
        say(f"warning: the end of the job is unknown, there is no time limit: {error}")
        return None
    if limit is not None and limit.is_hard and limit.seconds_left() <= 0:
        say("warning: the job ends too soon to train more than a step before that: give it a longer --time")
    return limit


def _requeue_job(run: Run, code: int) -> None:
    """Requeue the Slurm job of this process where the run, which ended with this code, goes on there; say so."""
    from convnn.worker import requeue

    if (message := requeue.requeue_job(run, code)) is not None:
        say(message)


def _report_end(run: Run, ended: RunResult, config: RunConfig, debug: bool) -> None:
    """Print how to resume a run that is not done; with --debug, the traceback of a failure."""
    if ended.error is not None and debug:
        import traceback

        err().print("".join(traceback.format_exception(ended.error)), soft_wrap=True)
    # what was refused before the first step would only be refused again
    refused = ended.code in (Exit.USAGE, Exit.DATA) and not run.has_checkpoint
    if ended.finished.outcome != "done" and not refused:
        from convnn.runs.resume import resume_command

        say(f"resume with: {resume_command(run, ended.flags, config)}")
