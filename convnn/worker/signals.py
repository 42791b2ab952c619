"""What signals mean while a run trains: the first stops it after the step, a second Ctrl-C within 3 s ends at once.

Python handles a signal between two bytecodes, which a long operator delays; a thread reading `signal.set_wakeup_fd`
does not wait for that. Files are valid at any moment: every write of ours is atomic or an append.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from convnn.errors import Exit

WORDS = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGHUP: "HUP", signal.SIGUSR1: "checkpoint"}
TWICE = 3.0  # seconds within which a second Ctrl-C ends at once


@contextmanager
def obeyed(give: Callable[[str], None], restore: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While the block runs, `give` gets the word of each signal; `restore` is called before the sudden end.

    Only on the main thread; the handlers that were there come back.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, lambda n, _: give(WORDS[signal.Signals(n)])) for number in WORDS}
    earlier = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read, restore), daemon=True, name="signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)  # ends the thread, which closes the other end


def _watch(read: int, restore: Callable[[], None]) -> None:
    last = -TWICE
    while data := os.read(read, 64):
        for number in data:
            if number != signal.SIGINT:
                continue
            now = time.monotonic()
            if now - last < TWICE:
                restore()
                os._exit(Exit.INTERRUPTED)
            last = now
    os.close(read)
