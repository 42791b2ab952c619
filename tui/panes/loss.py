"""The loss of each split by epoch, and behind it that of single steps."""

from __future__ import annotations

from convnn.charts import Series
from tui.panes.curves import COLOURS, CurvesPane, by_split
from tui.points import by_step


class LossPane(CurvesPane):
    """Loss of training and test images."""

    TITLE = "loss"
    AWAITING = "waiting for the first step"
    MISSING = "loss"
    HELP = (
        "The mean loss of each split an epoch, and of single training steps. Left and right move a cursor that is the "
        "same in all curves and shows their values. A dotted line is a pause, a resume, a change or a stop."
    )

    def series(self) -> list[Series]:
        xs, ys = by_step(self.history, "loss", self.view.x)
        steps = [Series("step", xs, ys, COLOURS["step"])] if len(xs) else []
        return [*by_split(self.history, "loss", self.view.x), *steps]
