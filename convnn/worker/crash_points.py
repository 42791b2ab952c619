"""Named points of a run at which a test can kill its process. Nothing happens unless $CONVNN_KILL_AT names one."""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "CONVNN_KILL_AT"  # a point, or "POINT:N" for the N-th time that it is reached
POINTS = (
    "run.locked",
    "run.logged",  # the first event of this process is in the history
    "step",
    "epoch.logged",  # in the history, not yet in a checkpoint
    "epoch.saved",
    "checkpoint.begun",
    "checkpoint.model",
    "checkpoint.optimizer",
    "checkpoint.state",
    "checkpoint.manifest",
    "checkpoint.replaced",  # an older one of the same step is out of the way
    "checkpoint.renamed",
    "checkpoint.pointed",
    "checkpoint.pruned",
    "run.results",  # every figure is written, the last event is not
    "run.ended",  # it is written, the optimizer is not yet dropped
    "run.pruned",
)
FORK_POINTS = (
    "fork.created",  # below a hidden name, with its configuration
    "fork.saved",  # with its checkpoints
    "fork.logged",  # complete, but for its name
    "fork.published",
)
_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Kill the process if it is to be killed at this point."""
    target = os.environ.get(VARIABLE)
    if target is None:
        return
    name, _, times = target.partition(":")
    _reached[point] += 1
    if name == point and _reached[point] == int(times or 1):
        os.kill(os.getpid(), signal.SIGKILL)
