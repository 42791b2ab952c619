"""The statistics of the layers of a run: a table of the latest, and a curve of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from convnn.metrics import LAYER_METRICS, format_value
from convnn.runs.history import Axis, History, layer_means
from convnn.tables import Column, Table
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.charts.chart import Series


class Statistic(NamedTuple):
    """The title of a column, and what it says."""

    title: str
    meaning: str


STATISTICS = {
    "neighbors_outside": Statistic("outside %", "% of the neighbors that lie outside of the kernel window"),
    "neighbors_distance": Statistic("distance px", "mean distance of the neighbors, in pixels of the image"),
    "neighbors_padding": Statistic("padding %", "% of the neighbors that are padding"),
    "neighbors_hub": Statistic("hub", "how often the most frequent candidate is chosen"),
    "neighbors_gini": Statistic("Gini", "Gini coefficient of how often each candidate is chosen"),
    "neighbors_overlap": Statistic("overlap %", "% of the neighbors that were chosen the last time, too"),
    "branch_activation": Statistic("activation %", "% of the ConvNN branch in the norms of activations"),
    "branch_weight": Statistic("weight %", "% of the ConvNN branch in the norms of the 1x1 weights"),
    "branch_gradient": Statistic("gradient %", "% of the ConvNN branch in the norms of gradients"),
    "first_activation": Statistic("ConvNN act.", "norm of the activations of the ConvNN branch"),
    "second_activation": Statistic("Conv2d act.", "norm of the activations of the Conv2d branch"),
    "first_weight": Statistic("ConvNN weight", "norm of the 1x1 weights of the ConvNN branch"),
    "second_weight": Statistic("Conv2d weight", "norm of the 1x1 weights of the Conv2d branch"),
    "first_gradient": Statistic("ConvNN grad", "norm of the gradient of the ConvNN branch"),
    "second_gradient": Statistic("Conv2d grad", "norm of the gradient of the Conv2d branch"),
}
NO_STATISTICS = "no statistics of layers were recorded: only ConvNN and branching layers have them"


def recorded_statistics(history: History) -> list[str]:
    """Return the names of the statistics that some layer has."""
    names = {name for event in history.layer_statistics for layer in event.layers.values() for name in layer}
    return [name for name in STATISTICS if name in names]


def layer_series(history: History, statistic: str, x: Axis = "epoch") -> list[Series]:
    """Return the curve of a statistic for each layer that has it, in the order of the model."""
    from convnn.charts.chart import Series  # not before the first frame of the app

    slots = dict.fromkeys(slot for event in history.layer_statistics for slot in event.layers)
    curves = [Series(slot, *history.layer_series(slot, statistic, x)) for slot in slots]
    return [curve for curve in curves if curve.xs]


def layer_table(history: History) -> Table:
    """Return the latest statistics of a run that has some, a row a layer and the means below.

    Of the norms of branches it has the shares alone, which compare between layers.
    """
    latest = history.layer_statistics[-1]
    names = [name for name in LAYER_METRICS if any(name in layer for layer in latest.layers.values())]
    rows = {**latest.layers, "mean": layer_means(latest)}
    cells = [
        [slot, *(format_value(layer[name], name) if name in layer else "" for name in names)]
        for slot, layer in rows.items()
    ]
    columns = [Column("layer"), *(Column(STATISTICS[name].title, right=True) for name in names)]
    note = f"after epoch {latest.epoch}, on {plural(latest.images, 'evaluation image')}"
    if latest.every > 1:
        note += f"; taken every {latest.every} epochs, as they take over 1 % of the time"
    return Table(columns, cells, key_columns=1, notes=[note])
