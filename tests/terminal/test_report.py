"""Events as lines of text."""

from __future__ import annotations

from convnn.events import Epoch, Resumed, Step
from convnn.runs.history import History
from convnn.terminal.report import event_line, latest_rate


def test_the_learning_rate_is_that_of_the_last_event_whether_a_step_or_an_epoch():
    step, epoch = Step(epoch=1, step=1, loss=1.0, lr=0.1), Epoch(epoch=1, step=4, metrics={"lr": 0.01})
    assert latest_rate(History([step])) == 0.1
    assert latest_rate(History([step, epoch])) == 0.01
    assert latest_rate(History([step, epoch, Step(epoch=2, step=5, loss=1.0, lr=0.001)])) == 0.001
    assert latest_rate(History([step, epoch, Step(epoch=2, step=5, loss=1.0)])) == 0.01
    assert latest_rate(History()) is None


def test_a_resumption_that_is_not_exact_is_marked_with_its_reason():
    def line(**fields):
        return event_line(Resumed(epoch=2, step=9, **fields), History())[0]

    assert line(exact=False, note="threads changed").endswith("(not exact: threads changed)")
    assert line(exact=False).endswith("(not exact)") and "(" not in line()
