"""The series of a history as arrays that grow with it: a long run is not read anew at every look."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from convnn.runs.history import Axis, History, Told
from tui.widgets.chart_settings import Range

if TYPE_CHECKING:
    import numpy as np

    Points = tuple[np.ndarray, np.ndarray]

FIELDS = ("step", "loss", "lr", "grad_norm")
_known: WeakKeyDictionary[History, Steps] = WeakKeyDictionary()


class Steps:
    """What the steps of a history say, a column a step."""

    def __init__(self) -> None:
        import numpy as np

        self.table = np.empty((len(FIELDS), 1024))
        self.count = 0
        self.last: Told | None = None

    def update(self, steps: list[Told]) -> None:
        """Take in what is new; all of it where a resume made earlier steps void."""
        import numpy as np

        if self.count > len(steps) or (self.count and steps[self.count - 1] is not self.last):
            self.count = 0
        new = steps[self.count :]
        if not new:
            return
        if len(steps) > self.table.shape[1]:
            larger = np.empty((len(FIELDS), 2 * len(steps)))
            larger[:, : self.count] = self.table[:, : self.count]
            self.table = larger
        for row, field in enumerate(FIELDS):
            values = [getattr(step, field) for step in new]
            self.table[row, self.count : len(steps)] = [np.nan if value is None else value for value in values]
        self.count, self.last = len(steps), steps[-1]

    def column(self, field: str) -> np.ndarray:
        """A field of all steps; NaN where it is not known."""
        return self.table[FIELDS.index(field), : self.count]


def by_step(history: History, field: str, x: Axis) -> Points:
    """(xs, ys) of a field of FIELDS, a point a step; empty where no step has it."""
    import numpy as np

    steps = _known.setdefault(history, Steps())
    steps.update(history.steps)
    ys = steps.column(field)
    if x == "seconds":
        xs = np.asarray(history.series("loss", "seconds", live=True)[0])
    else:
        per_epoch = (history.started and history.started.steps_per_epoch) or 1
        xs = steps.column("step") / (per_epoch if x == "epoch" else 1)
    return (xs[:0], ys[:0]) if not len(ys) or (field != "loss" and np.isnan(ys).all()) else (xs, ys)


def whole(history: History, x: Axis) -> Range:
    """The x from the first point of any curve to the last; of a run without points an empty one."""
    steps, _ = by_step(history, "loss", x)
    epochs, _ = history.series("test_loss", x)
    ends = [float(xs[at]) for xs in (steps, epochs) if len(xs) for at in (0, -1)]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)
