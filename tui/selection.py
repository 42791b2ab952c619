"""Which runs a person marked and pinned, for as long as the app is open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convnn.runs.summary import Summary

MARK, PIN = "◆", "▲"


class Selection:
    """Runs by their paths, in the order they were chosen."""

    def __init__(self) -> None:
        self.marked: dict[str, None] = {}
        self.pinned: dict[str, None] = {}

    def mark(self, paths: Iterable[str]) -> None:
        """Mark these runs; if all of them are, take the marks away."""
        _toggle(self.marked, list(paths))

    def unmark(self) -> None:
        """Take all marks away, also those of runs that are not shown."""
        self.marked.clear()

    def pin(self, path: str) -> None:
        """Keep a run on top, or do so no longer."""
        _toggle(self.pinned, [path])

    def sign(self, path: str) -> str:
        """Two cells before the name of a run."""
        return (PIN if path in self.pinned else " ") + (MARK if path in self.marked else " ")

    def on_top(self, runs: Sequence[Summary]) -> list[Summary]:
        """The runs with the pinned ones before the others."""
        if not self.pinned:
            return list(runs)
        return [run for run in runs if run.path in self.pinned] + [run for run in runs if run.path not in self.pinned]

    def compared(self, runs: Iterable[Summary], current: str | None) -> list[Summary]:
        """What a comparison is of: the pinned run first, then the marked ones; the current one where that is too few.

        Without a pin the first is the run that was marked first.
        """
        known = {run.path: run for run in runs}
        chosen = dict.fromkeys([*list(self.pinned)[:1], *self.marked])
        found = [known[path] for path in chosen if path in known]
        if len(found) == 1 and current in known and known[current] is not found[0]:
            found.append(known[current])
        return found


def _toggle(chosen: dict[str, None], paths: list[str]) -> None:
    if all(path in chosen for path in paths):
        for path in paths:
            del chosen[path]
    else:
        chosen |= dict.fromkeys(paths)
