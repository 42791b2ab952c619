"""Deleting runs and presets, and undoing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from convnn.errors import UserError
from convnn.presets import store
from convnn.runs import trash
from convnn.runs.lock import is_locked
from convnn.runs.run import Run
from tui.say import Say, reporting_errors
from tui.selection import Selection

Restore = Callable[[], str]  # brings one item back and returns its name


class Deletion:
    """Moves runs and presets to the trash, and brings back what was deleted last."""

    def __init__(self, root: Path, selection: Selection, say: Say) -> None:
        self.root = root
        self.selection = selection
        self.say = say
        self._deletions: list[list[Restore]] = []

    def delete_runs(self, runs: Sequence[Run]) -> None:
        """Move runs to the trash, except those that train; all of them come back with one undo."""
        names = []
        for run in runs:
            if is_locked(run.path):
                self.say(f"{run.name} is training and is not deleted: press . to stop it first", error=True)
                continue
            try:
                trash.discard(run.path, run.name, self.root, waits=False)
            except (UserError, OSError) as error:
                if run.path.exists():  # else it was deleted already: the list is not read again yet
                    self.say(str(error), error=True)
            else:
                names.append(run.name)
                self.selection.forget(str(run.path))
        if names:
            self._deletions.append([self._restore_run] * len(names))
            self._say_deleted(names[0] if len(names) == 1 else f"{len(names)} runs")

    def delete_preset(self, path: Path) -> None:
        """Move the file of a preset to the trash of its folder."""
        with reporting_errors(self.say):
            _, trashed = store.discard(path)
            self._deletions.append([partial(_restore_preset, path, trashed)])
            self._say_deleted(path.stem)

    def add(self, restore: Restore, message: str) -> None:
        """Remember how to undo something else that was taken away, and say what that was."""
        self._deletions.append([restore])
        self.say(f"{message}: press u to undo")

    def undo(self) -> None:
        """Bring back the last deletion since the app opened, or else the newest run in the trash."""
        deletion = self._deletions[-1] if self._deletions else [self._restore_run]
        with reporting_errors(self.say):
            while deletion:
                name = deletion[-1]()
                deletion.pop()
                self.say(f"{name} restored")
        if self._deletions and not deletion:
            self._deletions.pop()

    def _say_deleted(self, title: str) -> None:
        self.say(f"{title} moved to the trash: press u to undo")

    def _restore_run(self) -> str:
        return trash.undo(self.root).name


def _restore_preset(path: Path, trashed: Path) -> str:
    store.restore(trashed, path)
    return path.stem
