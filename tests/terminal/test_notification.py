"""The bell and the desktop notification at the end of a long run."""

from __future__ import annotations

import pytest

from convnn.terminal.notification import LONGEST, notification

NAME = "a;b\x1b]0;x\x07\x9c"  # ends the sequence where it is not escaped
TEXT = "a;b\\x1b]0;x\\x07\\x9c"


@pytest.mark.parametrize(
    ("environment", "sequence"),
    [
        ({"TERM": "xterm-kitty"}, f"\a\x1b]9;convnn: {TEXT}\a"),
        ({"TERM": "rxvt-unicode-256color"}, f"\a\x1b]777;notify;convnn;{TEXT}\a"),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, f"\a\x1b]777;notify;convnn;{TEXT}\a"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/tmux,1,0"}, f"\a\x1bPtmux;\x1b\x1b]9;convnn: {TEXT}\a\x1b\\"),
        ({"TERM": "screen", "STY": "1.pts"}, f"\a\x1bP\x1b]9;convnn: {TEXT}\a\x1b\\"),
        ({"TERM": "linux"}, "\a"),
    ],
)
def test_each_terminal_gets_the_sequence_that_it_knows(environment, sequence):
    assert notification(NAME, environment) == sequence


def test_a_long_name_is_cut():
    assert len(notification("x" * 1000, {})) < LONGEST + 30
