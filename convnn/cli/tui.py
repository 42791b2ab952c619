"""`convnn tui`: the app on this terminal."""

from __future__ import annotations

import os
import threading
from typing import Annotated

import typer

from convnn.cli import arguments
from convnn.errors import UserError
from convnn.gc_pause import gc_paused

EXAMPLES = """
convnn tui
convnn tui quickstart
"""

THEMES = ("dark", "light")


def _checked_theme(name: str | None) -> str | None:
    """Return the theme of the flag, else of the environment. Raises UserError for an unknown one."""
    place, value, fix = "CONVNN_THEME", os.environ.get("CONVNN_THEME"), f"use {' or '.join(THEMES)}, or leave it empty"
    if name is not None:
        place, value, fix = "--theme", name, f"use {' or '.join(THEMES)}"
    if value and value not in THEMES:
        raise UserError(f"{place} is {value!r}: there is no such theme", key="theme", value=value, fix=fix)
    return value or None


def tui(
    preset: arguments.Preset = None,
    theme: Annotated[
        str | None,
        typer.Option(
            "--theme",
            metavar="|".join(THEMES),
            help="colors, else $CONVNN_THEME",
            autocompletion=arguments.completion(THEMES),
        ),
    ] = None,
    no_notify: arguments.NoNotify = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Build, validate, save, launch and watch runs without leaving the terminal.

    It trains in this process, one run after the other; with a preset it opens the form with it. The exit code is 0, 1
    when the app failed, 2 without a terminal, and 129, 130 or 143 when a signal ended it: the run then stops and can be
    resumed.
    """
    from tui.process.descriptors import Terminal, check_terminal

    check_terminal()
    with gc_paused():
        from convnn.runs.run import runs_root
        from tui.app import ConvnnApp
        from tui.process.launcher import Launcher
        from tui.process.shutdown import run_app

    root, theme = runs_root(runs), _checked_theme(theme)
    with Terminal() as terminal:
        app = ConvnnApp(
            root, launcher=Launcher(root, terminal), preset=preset, notifies=not no_notify, theme_name=theme
        )
        code = run_app(app, app.shutdown, terminal)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(code)  # Textual's threads never end on a terminal that went away while it was written to
    raise typer.Exit(code)
