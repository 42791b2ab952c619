"""`convnn run`: validate, and train; or only say what would be trained, or evaluate a checkpoint."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.arguments import PresetArgument, RunsOption
from convnn.cli.console import err, say
from convnn.config.toml import dumps
from convnn.data.catalog import DATASETS
from convnn.errors import Exit, Problem, UserError
from convnn.gc_pause import uncollected
from convnn.presets.resolve import Resolved, resolve_with_data
from convnn.presets.store import read

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.runs.run import Run
    from convnn.worker.train_run import Ended


def run(
    preset: PresetArgument = None,
    *,
    typed: dict[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="validate, show configuration and cost, train nothing")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="one line an epoch")] = False,
    live: Annotated[bool, typer.Option("--live", help="live panes even where CI is set")] = False,
    json: Annotated[bool, typer.Option("--json", help="events as JSON lines on stdout")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of a failure")] = False,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0, help="stop, resumable, after this time")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="move the run in --output_dir to the trash first")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the unfinished run in --output_dir")] = False,
    run_: Annotated[
        str | None, typer.Option("--run", help="with --test_only: the run to evaluate", autocompletion=arguments.runs)
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="best|last",
            help="with --test_only: which weights, else the best",
            autocompletion=arguments.checkpoints,
        ),
    ] = None,
    runs: RunsOption = None,
) -> None:
    """Train a configuration: defaults, then the preset, then the flags typed; the later wins.

    Without a terminal, with --plain, --json or CI set, it prints one line an epoch. The first Ctrl-C stops after the
    step and leaves a run that can be resumed; a second within 3 s ends at once.
    """
    chosen = None if preset is None else read(preset)
    resolved = resolve_with_data(chosen, typed)
    config = resolved.checked()
    _check_flags(config, resume=resume, overwrite=overwrite, run=run_, checkpoint=checkpoint)
    for note in resolved.notes:
        say(f"note: {note}")
    if dry_run:
        from convnn.cli.dry_run import show_plan

        show_plan(resolved, as_json=json, takes_over=resume or overwrite)
        return
    if resolved.dataset.problem is not None and DATASETS[config.data.dataset].download is None:
        raise UserError(resolved.dataset.problem, Exit.DATA)
    if config.output.test_only:
        from convnn.cli.evaluate import evaluate

        evaluate(resolved, runs, run_, checkpoint or "best", as_json=json)
        return
    trained = _train(
        resolved,
        runs,
        plain=plain,
        live=live,
        as_json=json,
        overwrite=overwrite,
        resume=resume,
        max_minutes=max_minutes,
    )
    if trained is not None:
        farewell(*trained, config, debug)
        raise typer.Exit(trained[1].code)


def _check_flags(config: RunConfig, *, resume: bool, overwrite: bool, run: str | None, checkpoint: str | None) -> None:
    """What no field alone can say about the flags of the command."""
    found = []
    if checkpoint not in (None, "best", "last"):
        found.append(
            Problem(f"--checkpoint is {checkpoint!r}: must be best or last", key="checkpoint", value=checkpoint)
        )
    if (resume or overwrite) and config.output.dir is None:
        flag = "--resume" if resume else "--overwrite"
        found.append(Problem(f"{flag} needs --output_dir", fix="name the run's directory, or use `convnn resume RUN`"))
    if resume and overwrite:
        found.append(Problem("--resume and --overwrite exclude each other", fix="leave one of them out"))
    if run is not None and not config.output.test_only:
        found.append(Problem("--run is for --test_only", fix="use `convnn resume RUN` to go on with a run"))
    if checkpoint is not None and not config.output.test_only:
        found.append(Problem("--checkpoint is for --test_only", fix="leave it out"))
    if (resume or overwrite) and config.output.test_only:
        flag = "--resume" if resume else "--overwrite"
        found.append(Problem(f"{flag} is for training, --test_only only evaluates", fix="leave one of them out"))
    if found:
        raise UserError(found)


def _train(
    resolved: Resolved,
    runs: Path | None,
    *,
    plain: bool,
    live: bool,
    as_json: bool,
    overwrite: bool,
    resume: bool,
    max_minutes: float | None,
) -> tuple[Run, Ended] | None:
    from convnn.runs.run import create_run, is_run, runs_root

    config = resolved.config
    if not as_json:
        say("loading torch ...")
    with uncollected(modules=True):
        from convnn.training import device  # torch comes in here

    device.device(config)
    directory = Path(config.output.dir) if config.output.dir else None
    if resume and directory is not None and is_run(directory):
        return _go_on(directory, config, runs, plain=plain, live=live, as_json=as_json, max_minutes=max_minutes)
    made = create_run(
        dumps(config, whole=True),
        model=config.model.name,
        layer=config.layer.type,
        root=runs_root(runs),
        name=config.run.name,
        directory=directory,
        overwrite=overwrite,
    )
    return made, train(made, config, plain=plain, live=live, as_json=as_json, max_minutes=max_minutes)


def _go_on(directory: Path, config: RunConfig, runs: Path | None, **how: Any) -> tuple[Run, Ended] | None:
    """Go on with the unfinished run in a directory, if it is of the same configuration."""
    from convnn.config.active import active_options
    from convnn.config.diff import config_diff
    from convnn.runs.find import find_run
    from convnn.runs.resume import check_same_config
    from convnn.runs.run import runs_root

    found = find_run(f"{directory}/", runs_root(runs))
    if found.status() == "done":
        say(f"{found.name} is finished: nothing is left to do")
        if others := config_diff(active_options(found.config()), config):
            say("warning: it was trained with another configuration than this command has")
            for problem in others:
                say(f"  {problem.message}")
        return None
    check_same_config(found, active_options(found.config()), config)
    return found, train(found, config, resume=True, **how)


def train(
    run: Run,
    config: RunConfig,
    *,
    plain: bool = False,
    live: bool = False,
    as_json: bool = False,
    resume: bool = False,
    max_minutes: float | None = None,
) -> Ended:
    """Train a run on this thread, shown in this terminal; signals stop it."""
    with uncollected(modules=True):
        from convnn.worker.train_run import train_run
    from convnn.runs.resume import resume_command
    from convnn.terminal.live import run_view
    from convnn.worker.signals import Command, obeyed

    commands: deque[Command] = deque()
    about = f"{config.model.name} {config.layer.type}, {config.data.dataset}"
    before = run.history() if resume else None
    shown = run_view(run.name, about, history=before, plain=plain, live=live, json=as_json)

    def ends_at_once() -> None:
        shown.restore()
        with suppress(OSError):  # hung up; and no console, whose lock the main thread may hold
            os.write(2, f"ended at once; resume with: {resume_command(run, config=config)}\n".encode())

    with shown, obeyed(commands.append, ends_at_once):
        return train_run(run, config, show=shown.show, commands=commands, resume=resume, max_minutes=max_minutes)


def farewell(run: Run, ended: Ended, config: RunConfig, debug: bool) -> None:
    """Say on stderr how to go on with a run that is not done; with --debug, where an exception came from."""
    if ended.error is not None and debug:
        import traceback

        err().print("".join(traceback.format_exception(ended.error)), soft_wrap=True)
    # what was refused before the first step would only be refused again
    refused = ended.code in (Exit.USAGE, Exit.DATA) and not (run.path / "checkpoints" / "last").is_file()
    if ended.finished.outcome != "done" and not refused:
        from convnn.runs.resume import resume_command

        say(f"resume with: {resume_command(run, ended.flags, config)}")
