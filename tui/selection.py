"""The runs that are marked and pinned, for as long as the app is open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convnn.runs.summary import Summary

MARK, PIN = "◆", "▲"


class Selection:
    """Paths of runs in the order in which they were chosen: `marked` to compare or delete, `pinned` to stay on top."""

    def __init__(self) -> None:
        self.marked: dict[str, None] = {}
        self.pinned: dict[str, None] = {}

    def toggle_mark(self, paths: Iterable[str]) -> None:
        """Mark these runs or, if all of them are marked, unmark them."""
        _toggle(self.marked, list(paths))

    def unmark_all(self) -> None:
        """Unmark every run, also those that a filter hides."""
        self.marked.clear()

    def toggle_pin(self, path: str) -> None:
        _toggle(self.pinned, [path])

    def forget(self, path: str) -> None:
        """Unmark and unpin a run that is gone."""
        self.marked.pop(path, None)
        self.pinned.pop(path, None)

    def glyphs(self, path: str) -> str:
        """Return the pin and the mark of a run, two cells wide."""
        pin = PIN if path in self.pinned else " "
        mark = MARK if path in self.marked else " "
        return pin + mark

    def pinned_first(self, runs: Sequence[Summary]) -> list[Summary]:
        if not self.pinned:
            return list(runs)
        return sorted(runs, key=lambda run: run.path not in self.pinned)

    def to_compare(self, runs: Iterable[Summary], current: str | None) -> list[Summary]:
        """Return the runs of a comparison: the first pinned run, then the marked ones in the order of marking.

        Where that is one run alone, the run at the path `current` is added.
        """
        by_path = {run.path: run for run in runs}
        paths = dict.fromkeys([*list(self.pinned)[:1], *self.marked])
        chosen = [by_path[path] for path in paths if path in by_path]
        if len(chosen) == 1 and current in by_path and by_path[current] is not chosen[0]:
            chosen.append(by_path[current])
        return chosen


def _toggle(chosen: dict[str, None], paths: list[str]) -> None:
    if all(path in chosen for path in paths):
        for path in paths:
            del chosen[path]
    else:
        chosen |= dict.fromkeys(paths)
