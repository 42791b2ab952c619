"""The question what a run that trains is to do."""

from __future__ import annotations

from tui.dialogs.choice import Answer, Choice

LIVE_WORDS: tuple[Answer, ...] = (
    ("pause", "pause", "hold after this step"),
    ("checkpoint", "checkpoint", "save now and go on"),
    ("stop-epoch", "stop after the epoch", "save and end; it can be resumed"),
    ("stop", "stop now", "save after this step and end; it can be resumed"),
)
PAUSED_WORDS: tuple[Answer, ...] = (("resume", "resume", "go on"), *LIVE_WORDS[1:])


GOES_ON: tuple[Answer, ...] = (
    ("go-on", "go on", "from its newest good checkpoint, in this app"),
    ("leave-it", "leave it", "as it is"),
)


class StopMenu(Choice):
    """Pause, go on, stop after the epoch or now."""

    def __init__(self, *, paused: bool) -> None:
        super().__init__("pause or stop", "", PAUSED_WORDS if paused else LIVE_WORDS)
