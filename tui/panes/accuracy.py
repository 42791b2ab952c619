"""The share of images of each split whose class was found."""

from __future__ import annotations

from convnn.charts import Series
from tui.panes.curves import CurvesPane, by_split


class AccuracyPane(CurvesPane):
    """Top-1 accuracy of training and test images, in percent."""

    TITLE = "accuracy, %"
    AWAITING = "waiting for the first epoch to end"
    MISSING = "accuracy"
    HELP = (
        "The top-1 accuracy of each split an epoch, in percent. Left and right move a cursor that is the same in all "
        "curves and shows their values. Where a run has a validation share, that decides which epoch was best."
    )

    def series(self) -> list[Series]:
        return by_split(self.history, "top1", self.view.x)
