"""A bell and a desktop notification, as escape sequences that terminals act on; tmux and screen pass them on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from convnn.terminal.console import draws_in_place, out
from convnn.text import escaped

NOTABLE_SECONDS = 60.0  # a person may have gone away during what took longer
LONGEST = 160  # bytes: screen drops a sequence of more than 256
BELL = "\a"


def notification(message: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a bell and the escape sequence that shows a message on the desktop.

    That is OSC 777 for urxvt and VTE, which know no other, and OSC 9 for the rest: kitty, foot, Ghostty and WezTerm
    know both and would show two. A terminal that knows neither ignores them; the Linux console gets the bell alone.
    """
    terminal = environment.get("TERM", "")
    if terminal == "linux":
        return BELL
    text = escaped(message).encode()[:LONGEST].decode(errors="ignore")
    sequence = f"\x1b]9;convnn: {text}{BELL}"
    if terminal.startswith("rxvt") or "VTE_VERSION" in environment:
        sequence = f"\x1b]777;notify;convnn;{text}{BELL}"
    if "TMUX" in environment:  # shown where its option allow-passthrough is on
        sequence = "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    elif "STY" in environment:
        sequence = f"\x1bP{sequence}\x1b\\"
    return BELL + sequence


def notify(message: str) -> None:
    """Show a message on the desktop, if stdin and stdout are a terminal that somebody watches."""
    if draws_in_place():
        with suppress(OSError):  # the terminal hung up
            sys.stdout.write(notification(out().displayable(message)))
            sys.stdout.flush()
