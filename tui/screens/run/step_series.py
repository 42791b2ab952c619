"""The steps of a history as arrays that grow with it, so that a long run is not converted anew at every poll."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from convnn.runs.history import Axis, History, StepRecord

if TYPE_CHECKING:
    import numpy as np

    Points = tuple[np.ndarray, np.ndarray]

FIELDS = ("step", "loss", "lr", "grad_norm")
_tables: WeakKeyDictionary[History, StepTable] = WeakKeyDictionary()


class StepTable:
    """The fields of all steps: a row a field, a column a step."""

    def __init__(self) -> None:
        import numpy as np

        self.table = np.empty((len(FIELDS), 1024))
        self.count = 0
        self.last_step: StepRecord | None = None

    def update(self, steps: list[StepRecord]) -> None:
        """Append new steps; convert all of them where a resume made earlier ones void."""
        import numpy as np

        if self.count > len(steps) or (self.count and steps[self.count - 1] is not self.last_step):
            self.count = 0
        new_steps = steps[self.count :]
        if not new_steps:
            return
        if len(steps) > self.table.shape[1]:
            larger = np.empty((len(FIELDS), 2 * len(steps)))
            larger[:, : self.count] = self.table[:, : self.count]
            self.table = larger
        for row, field in enumerate(FIELDS):
            values = [getattr(step, field) for step in new_steps]
            self.table[row, self.count : len(steps)] = [np.nan if value is None else value for value in values]
        self.count, self.last_step = len(steps), steps[-1]

    def column(self, field: str) -> np.ndarray:
        """Return a field of all steps, NaN where it is unknown."""
        return self.table[FIELDS.index(field), : self.count]


def step_series(history: History, field: str, x: Axis) -> Points:
    """Return (xs, ys) of one of FIELDS or of a system metric, a point a step; empty where no step has it."""
    import numpy as np

    table = _tables.setdefault(history, StepTable())
    table.update(history.steps)
    ys = table.column(field) if field in FIELDS else np.array(history.system.get(field, ()))
    if not len(ys):
        return ys, ys
    if x == "seconds":
        xs = np.asarray(history.series("loss", "seconds", live=True)[0])
    else:
        xs = table.column("step")
        if x == "epoch":
            xs = xs / history.epoch_steps
    if field == "loss":
        return xs, ys
    known = ~np.isnan(ys)
    if known.all():
        return xs, ys
    return xs[known], ys[known]
