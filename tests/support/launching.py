"""The app as `convnn tui` runs it, but for a launch at its start: run by tests in a pseudo-terminal.

usage: python launching.py RUNS [key=value ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from convnn.presets.resolve import resolve
from tui.app import ConvnnApp
from tui.process.descriptors import Terminal
from tui.process.launcher import Launcher
from tui.process.shutdown import run_app
from tui.screens.run.screen import RunScreen


class Launching(ConvnnApp):
    """Launches as soon as it is up, and shows the run."""

    def __init__(self, root: Path, launcher: Launcher, typed: dict[str, str]) -> None:
        super().__init__(root, launcher=launcher)
        self.typed = typed

    def on_ready(self) -> None:
        config = resolve(None, self.typed).checked()
        self.push_screen(RunScreen(self.launcher.launch(config)))

    def key_f12(self) -> None:
        raise RuntimeError("a fault of the app")


def main() -> int:
    runs, *rest = sys.argv[1:]
    typed = dict(word.split("=", 1) for word in rest)
    with Terminal() as terminal:
        app = Launching(Path(runs), Launcher(Path(runs), terminal), typed)
        return run_app(app, app.shutdown, terminal)


if __name__ == "__main__":
    sys.exit(main())
