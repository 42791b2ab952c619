"""The menu of a run: pause, stop and checkpoint it while it trains, or resume it after it ended early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnn.errors import UserError
from convnn.runs import control
from convnn.runs.control import ControlCommand
from convnn.runs.run import Run
from tui.dialogs.choice import Answer, Choice

if TYPE_CHECKING:
    from tui.services import ServicesApp

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
ENDED_ANSWERS: tuple[Answer, ...] = (
    ("resume", "resume", "from its newest intact checkpoint, in this app"),
    ("cancel", "cancel", "leave it as it is"),
)


class RunMenu:
    """Asks what to do with a run, and does it."""

    def __init__(self, app: ServicesApp, run: Run, status: str) -> None:
        self.app, self.run, self.status = app, run, status

    def open(self) -> None:
        """Show the answers that this status allows, or say that there are none."""
        if self.status == "paused":
            self.app.push_screen(Choice("pause or stop", "", PAUSED_ANSWERS), self._control)
        elif self.status == "running":
            self.app.push_screen(Choice("pause or stop", "", RUNNING_ANSWERS), self._control)
        elif self.status == "done" or self.run.imported:
            self.app.say(f"there is nothing to pause, stop or resume: the run is {self.status}")
        elif any(launch.resumes == self.run for launch in self.app.launcher.queued):
            self.app.say("it is queued behind the runs before it")
        else:
            self.app.push_screen(Choice("resume", f"The run is {self.status}.", ENDED_ANSWERS), self._resume)

    def _control(self, word: str | None) -> None:
        if word is None:
            return
        try:
            control.send(self.run.path, ControlCommand(word))
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        else:
            self.app.say(CONFIRMATIONS[ControlCommand(word)])

    def _resume(self, word: str | None) -> None:
        if word != "resume":
            return
        try:
            self.app.launcher.resume(self.run)
        except (UserError, OSError) as error:
            self.app.say(str(error), error=True)
        else:
            self.app.say(f"{self.run.name} resumes after any runs before it")
