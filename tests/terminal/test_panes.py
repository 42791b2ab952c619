"""What `convnn show` and `convnn compare` draw of runs."""

from __future__ import annotations

import io

from support.runs import epoch, new

from convnn.analysis.comparison import compare
from convnn.events import Finished, Started
from convnn.runs.summary import summarize
from convnn.terminal.console import EscapingConsole
from convnn.terminal.panes import ComparisonCurves


def test_the_curves_of_compared_runs_are_drawn_over_each_other(tmp_path):
    runs = [
        new(tmp_path, Started(), epoch(1, top1), epoch(2, top1 + 1), Finished(outcome="done")) for top1 in (50.0, 60.0)
    ]
    stream = io.StringIO()
    console = EscapingConsole(file=stream)
    console.print(ComparisonCurves(compare([summarize(run) for run in runs]), 100), soft_wrap=True)
    title, *lines, rest = stream.getvalue().split("\n")
    assert title == "test_top1 by epoch"
    assert [len(line) for line in lines] == [100] * 14 and rest == "" and {"A", "B"} <= set("".join(lines))
