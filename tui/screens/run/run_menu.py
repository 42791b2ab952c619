"""What can be done with a run: pause, stop and checkpoint it while it trains, afterwards resume, fork, evaluate it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from convnn.config.toml import dumps
from convnn.runs import control
from convnn.runs.annotate import add_note
from convnn.runs.control import ControlCommand
from convnn.runs.run import Run
from convnn.runs.slurm_jobs import QUEUED, REQUEUED
from convnn.runs.status import STATUSES
from convnn.sweeps.queue import resuming_entry
from tui.dialogs.choice import Answer, Choice
from tui.dialogs.prompt import Prompt
from tui.process.evaluation import evaluate
from tui.say import reporting_errors
from tui.widgets.run_name import short_name

if TYPE_CHECKING:
    from tui.app import ConvnnApp

NAME_WIDTH = 60  # cells of the run's name in the title
RUNNING_ANSWERS: tuple[Answer, ...] = (
    (ControlCommand.PAUSE.value, "pause", "hold after this step"),
    (ControlCommand.CHECKPOINT.value, "checkpoint", "save now and continue"),
    (ControlCommand.STOP_EPOCH.value, "stop after the epoch", "save and end; it can be resumed"),
    (ControlCommand.STOP.value, "stop now", "save after this step and end; it can be resumed"),
)
PAUSED_ANSWERS: tuple[Answer, ...] = (
    (ControlCommand.RESUME.value, "resume", "continue training"),
    *RUNNING_ANSWERS[1:],
)
CONFIRMATIONS = {
    ControlCommand.PAUSE: "pause requested: the run pauses after the current step",
    ControlCommand.RESUME: "resume requested: the run continues training",
    ControlCommand.CHECKPOINT: "checkpoint requested: the run saves one after the current step",
    ControlCommand.STOP_EPOCH: "stop requested: the run saves a checkpoint and ends after the current epoch",
    ControlCommand.STOP: "stop requested: the run saves a checkpoint and ends after the current step",
}
RESUME_ANSWERS: tuple[Answer, ...] = (
    ("resume-here", "resume", "from its newest intact checkpoint, in this app"),
    ("resume-queued", "resume in the background", "in the queue, which outlives the app"),
)
CANCEL_ANSWER: Answer = ("cancel-job", "cancel its job", "of Slurm; the run can be resumed")
FORK_ANSWER: Answer = ("fork", "fork", "a new run from its checkpoint, with more epochs or other options")
EVALUATE_ANSWER: Answer = ("evaluate", "evaluate", "its best checkpoint on the test split, in a child process")
ANY_ANSWERS: tuple[Answer, ...] = (
    ("repeat", "three more seeds", "train its configuration again, in the queue or here"),
    ("duplicate", "duplicate", "a new run from its options, in the form"),
    ("compare", "compare", "with the marked runs or, without marks, with some of a list"),
    ("note", "note", "write a line into its history"),
)


def answers_for(run: Run, status: str) -> tuple[Answer, ...]:
    if status == "paused":
        return (*PAUSED_ANSWERS, *ANY_ANSWERS)
    if STATUSES[status].is_live:
        return (*RUNNING_ANSWERS, *ANY_ANSWERS)
    answers = ANY_ANSWERS
    if run.has_checkpoint:
        answers = (FORK_ANSWER, EVALUATE_ANSWER, *answers)
    if can_resume(run, status):
        answers = (*RESUME_ANSWERS, *answers)
    if status in (QUEUED, REQUEUED):
        answers = (CANCEL_ANSWER, *answers)
    return answers


def can_resume(run: Run, status: str) -> bool:
    return not (STATUSES[status].is_live or status in ("done", QUEUED, REQUEUED) or run.imported)


class RunMenu:
    """Asks what to do with a run, and does it."""

    def __init__(self, app: ConvnnApp, run: Run, status: str) -> None:
        self.app, self.run, self.status = app, run, status

    def open(self) -> None:
        title = short_name(self.run.name, NAME_WIDTH)
        dialog = Choice(title, f"The run is {self.status}.", answers_for(self.run, self.status))
        self.app.ask(dialog, self._do)

    def resume(self) -> None:
        """Resume the run in this app, after the launches before it."""
        if any(launch.resumes == self.run for launch in self.app.launcher.queued):
            self.app.say("it is queued behind the runs before it")
            return
        self.app.launcher.resume(self.run)
        self.app.say(f"{self.run.name} resumes after any runs before it")

    def ask_for_note(self) -> None:
        self.app.ask(Prompt("note", "one line, kept with the time and your name"), self._add_note)

    def _do(self, word: str) -> None:
        with reporting_errors(self.app.say):
            match word:
                case "resume-here":
                    self.resume()
                case "resume-queued":
                    self._resume_in_background()
                case "cancel-job":
                    self.app.run_worker(self._cancel_job(), group="cancel-job", exit_on_error=False)
                case "fork":
                    self.app.show_form(run=self.run, forks=True)
                case "evaluate":
                    self.app.run_worker(self._evaluate(), group="evaluate", exit_on_error=False)
                case "repeat":
                    self.app.repeat(self.run)
                case "duplicate":
                    self.app.show_form(run=self.run)
                case "compare":
                    self.app.compare_with(self.run)
                case "note":
                    self.ask_for_note()
                case _:
                    command = ControlCommand(word)
                    control.send(self.run.path, command)
                    self.app.say(CONFIRMATIONS[command])

    def _resume_in_background(self) -> None:
        if self.app.background.has_run(self.run):
            self.app.say("it is in the queue already")
            return
        entry = resuming_entry(self.run, dumps(self.run.config(), whole=True))
        self.app.say(f"{self.run.name}: {self.app.background.add([entry])}")

    async def _cancel_job(self) -> None:
        from convnn.sweeps.stop import stop_job  # not before the first frame

        with reporting_errors(self.app.say):
            job = await asyncio.to_thread(stop_job, self.run.path)
            self.app.say(f"job {job} is canceled" if job else "it has no job any more")

    def _add_note(self, text: str) -> None:
        with reporting_errors(self.app.say):
            add_note(self.run, text)
            self.app.say(f"noted in {self.run.name}")

    async def _evaluate(self) -> None:
        self.app.say(f"evaluating {self.run.name} in a child process ...")
        with reporting_errors(self.app.say):
            result = await evaluate(self.run, self.app.root)
            self.app.push_screen(Choice("test metrics", result, (("close", "close", ""),)))
