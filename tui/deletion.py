"""The part of Home that throws runs and presets away, and brings them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnn.errors import UserError
from convnn.presets import store
from convnn.runs import trash
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from tui.run_feed import Following
from tui.widgets.preset_list import Listed, PresetList
from tui.widgets.run_table import RunTable


class Deleting(Following):
    """A screen with a list of runs and one of presets, whose items can be deleted and brought back."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.deleted: list[tuple[Path, Path] | None] = []  # presets (where it was, where it is now); None is a run

    @property
    def preset(self) -> Listed | None:
        """The preset under the cursor, where that pane has the focus."""
        rows = self.query_one(PresetList)
        return rows.current if rows.has_focus else None

    @property
    def run(self) -> Run | None:
        """The run under the cursor, where that pane has the focus."""
        rows = self.query_one(RunTable)
        item = rows.current if rows.has_focus else None
        return None if item is None or item.status == "queued" else Run(Path(item.key), item.name)

    def action_delete(self) -> None:
        """Move a run or a preset to the trash, or a launch out of the queue."""
        try:
            if self.preset is not None:
                self.deleted.append(store.discard(self.preset.path))
                self.app.say(f"{self.preset.name} is in the trash: u brings it back")
            elif self.run is not None:
                trash.discard(self.run.path, self.run.name, self.root)
                self.deleted.append(None)
                self.app.say(f"{self.run.name} is in the trash: u brings it back")
            else:
                self._unqueue()
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)
        self.look_now.set()

    def _unqueue(self) -> None:
        item = self.query_one(RunTable).current
        for launch in self.app.launcher.queued:
            if item is not None and str(id(launch)) == item.key and not self.app.launcher.drop(launch):
                self.app.say("it has started already", wrong=True)

    def action_undo(self) -> None:
        """Bring back what was deleted last: here, or else the newest run of the trash."""
        try:
            last = self.deleted[-1] if self.deleted else None
            if last is not None:
                was, now = last
                store.bring_back(now, was)
                self.app.say(f"{was.stem} is back")
            else:
                self.app.say(f"{trash.undo(self.root).name} is back")
            del self.deleted[-1:]
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)
        self.look_now.set()


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
            self.app.selection.marked.pop(run.path, None)
            self.app.selection.pinned.pop(run.path, None)
        self.look_now.set()

    def action_undo(self) -> None:
        """Bring back what was deleted last: here, or else the newest run of the trash."""
        try:
            for _ in range(self.batches.pop() if self.batches else 1):
                self.app.say(f"{trash.undo(self.root).name} is back")
        except (UserError, OSError) as error:
            self.app.say(str(error), wrong=True)
        self.look_now.set()
