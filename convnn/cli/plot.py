"""`convnn plot`: a figure for a paper: curves with bands over repeats, or a metric over an option."""

from __future__ import annotations

import logging
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convnn.cli import arguments, listing
from convnn.cli.output import say_notes
from convnn.errors import Exit, UserError, naming_flag
from convnn.files import write_atomic
from convnn.paths import new_file
from convnn.terminal.console import say

if TYPE_CHECKING:
    from convnn.runs.summary import Summary

EXAMPLES = """
convnn plot 'layer=Branching dataset=cifar10' --out curves.pdf
convnn plot @1 @2 --metric test_loss --x seconds --out loss.svg
convnn plot --sweep lr --x lr --metric best:val_top1 --out rates.svg
"""


def plot(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|FILTER...",
            help="runs, or filters such as 'layer=Branching K>=9'",
            autocompletion=arguments.complete_runs,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="file to write: .svg, .pdf or .png")],
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", metavar="NAME", help="the runs of a sweep", autocompletion=arguments.complete_sweeps),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="KEY",
            help="test_top1, best:test_loss (over an option), ...; without it the one that the runs are chosen by",
            autocompletion=arguments.complete_keys,
        ),
    ] = None,
    x: Annotated[
        str,
        typer.Option(
            "--x",
            metavar="KEY",
            help="epoch, seconds, images, FLOPs; or an option, with a line for each of the others that differ",
            autocompletion=arguments.complete_keys,
        ),
    ] = "epoch",
    style: Annotated[
        str | None, typer.Option("--style", metavar="NAME|FILE", help="style of Matplotlib, or a style file")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
    unfinished: arguments.Unfinished = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Draw a figure: mean ± sd of repeats as curves with bands, or over an option as points with error bars.

    It needs Matplotlib (pip install 'convnn\\[plot]'), whose configuration and styles decide its look.
    """
    from convnn.analysis.figure_data import figure_data
    from convnn.charts import figure
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    with naming_flag("--out"):
        out = new_file(out, figure.FORMATS, overwrite=overwrite)
    logging.getLogger("matplotlib").addHandler(LOGGED_WARNINGS)
    figure.check_style(style or "default")
    root = runs_root(runs)
    # the command in the file has names for references, which later runs change
    names = [find_run(name, root).name if name.startswith("@") else name for name in names or []]
    selected, notes = _selected(names, sweep, root, unfinished=unfinished)
    data = figure_data(selected, metric=metric, x=x)
    options = {"--sweep": sweep, "--metric": metric, "--x": x, "--style": style, "--runs": runs}
    words = [word for flag, value in options.items() if value is not None for word in (flag, str(value))]
    if unfinished:
        words.append("--unfinished")
    command = shlex.join(["convnn", "plot", *names, *words, "--out", str(out)])
    image, warnings = figure.draw_figure(data, out.suffix.lower(), about=command, style=style)
    write_atomic(out, image)
    say_notes([*notes, *data.notes, *(f"warning: {warning}" for warning in warnings)])
    say(f"written to {out}")


class _LoggedWarnings(logging.Handler):
    """Says once what a library logs: logging itself would write a configuration file's control characters to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage().strip()
        if message not in self._messages:
            self._messages.add(message)
            say(f"warning: {message}")


LOGGED_WARNINGS = _LoggedWarnings()


def _is_filter(name: str) -> bool:
    return bool(re.search(r"[=<>~\s]|^has:", name)) and not os.path.exists(name)  # noqa: PTH110 a name can be too long


def _selected(names: list[str], sweep: str | None, root: Path, *, unfinished: bool) -> tuple[list[Summary], list[str]]:
    """Return the runs that were named, and those of the filters and the sweep that were trained to their end."""
    from convnn.analysis.filters import parse_filter
    from convnn.sweeps.folder import find_folder

    if not names and sweep is None:
        raise UserError("no runs to plot", fix="name runs, or give a filter such as 'layer=ConvNN', or --sweep")
    summaries = listing.read_summaries(root)
    run_names = {run.name for run in summaries}  # which may hold "=", as those of cells do
    filters = [name for name in names if name not in run_names and _is_filter(name)]
    matches = [run for text in filters for run in parse_filter(text, summaries).select(summaries)]
    named = listing.named_summaries([name for name in names if name not in filters], summaries, root)
    if sweep is not None:
        sweep = find_folder(sweep, root).name
        matches += [summary for summary in summaries if sweep in summary.sweeps]
    finished, notes = listing.finished_runs(list({run.path: run for run in matches}.values()), unfinished)
    selected = list({run.path: run for run in [*named, *finished]}.values())
    if not selected:
        raise UserError("; ".join(["no run matches", *notes]), Exit.NO_RUN)
    return selected, notes
