"""Events as lines of text."""

from __future__ import annotations

from convnn.events import Resumed
from convnn.runs.history import History
from convnn.terminal.report import event_line


def test_a_resumption_that_is_not_exact_is_marked_with_its_reason():
    def line(**fields):
        return event_line(Resumed(epoch=2, step=9, **fields), History())[0]

    assert line(exact=False, note="threads changed").endswith("(not exact: threads changed)")
    assert line(exact=False).endswith("(not exact)") and "(" not in line()
