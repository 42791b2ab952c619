"""The question what a run that trains is to do."""

from __future__ import annotations

from convnn.runs.control import ControlCommand
from tui.dialogs.choice import Answer, Choice

RUNNING: tuple[Answer, ...] = (
    (ControlCommand.PAUSE.value, "pause", "hold after this step"),
    (ControlCommand.CHECKPOINT.value, "checkpoint", "save now and go on"),
    (ControlCommand.STOP_EPOCH.value, "stop after the epoch", "save and end; it can be resumed"),
    (ControlCommand.STOP.value, "stop now", "save after this step and end; it can be resumed"),
)
PAUSED: tuple[Answer, ...] = ((ControlCommand.RESUME.value, "resume", "go on"), *RUNNING[1:])


GOES_ON: tuple[Answer, ...] = (
    ("go-on", "go on", "from its newest good checkpoint, in this app"),
    ("leave-it", "leave it", "as it is"),
)


class StopMenu(Choice):
    """Pause, go on, stop after the epoch or now."""

    def __init__(self, *, paused: bool) -> None:
        super().__init__("pause or stop", "", PAUSED if paused else RUNNING)
