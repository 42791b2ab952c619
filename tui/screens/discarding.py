"""A screen that moves runs to the trash, several at once, and brings them back together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnn import trash
from convnn.errors import UserError
from convnn.summaries import Summary
from tui.screens.following import Following


class Discarding(Following):
    """Remembers what it deleted."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.batches: list[int] = []  # how many runs each deletion was of

    def discard(self, runs: Sequence[Summary]) -> None:
        """Move runs to the trash; one that trains stays."""
        gone: list[Summary] = []
        for run in runs:
            try:
                trash.discard(Path(run.path), run.name, self.root)
                gone.append(run)
            except (UserError, OSError) as error:
                self.app.say(str(error), wrong=True)
        if gone:
            self.batches.append(len(gone))
            self.app.say(f"{gone[0].name if len(gone) == 1 else f'{len(gone)} runs'} in the trash: u brings back")
        for run in gone:
            self.app.marks.marked.pop(run.path, None)
            self.app.marks.pinned.pop(run.path, None)
        self.look_now.set()

    def action_undo(self) -> None:
        """Bring back what was deleted last: here, or else the newest run of the trash."""
        try:
            for _ in range(self.batches.pop() if self.batches else 1):
                self.app.say(f"{trash.undo(self.root).name} is back")
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)
        self.look_now.set()
