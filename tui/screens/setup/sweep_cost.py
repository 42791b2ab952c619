"""How long the runs of several values take, in one line."""

from __future__ import annotations

from convnn.text import duration, plural, prefixed
from tui.screens.setup.draft import CheckedDraft
from tui.screens.setup.epoch_time import EpochTime


def sweep_cost_text(checked: CheckedDraft, epoch_time: EpochTime | None) -> str:
    """Return "15 runs, about 2 h": by the epoch time of the first one and the FLOPs of all, else only the FLOPs."""
    count = plural(len(checked.cells), "run")
    flops = [value for value in checked.flops if value is not None]
    is_known = len(flops) == len(checked.flops) and bool(flops)
    if epoch_time is not None:
        seconds = epoch_time.seconds * sum(cell.config.training.num_epochs for cell in checked.cells)
        if is_known:
            seconds = epoch_time.seconds * checked.config.training.num_epochs * sum(flops) / flops[0]
        return f"{count}, about {duration(seconds)}"
    if is_known:
        return f"{count}, {prefixed(sum(flops))}FLOPs"
    return count
