"""How far the run is, how fast it goes, how long it takes, and how it ended."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from convnn.runs.history import History
from convnn.text import duration, escaped, fit, number, printable
from tui.screens.run.pane import Pane


class ProgressPane(Pane):
    """Epochs and steps as bars, with speed and time; below, in a sentence, what matters most now."""

    TITLE = "progress"
    HELP = (
        "How far the run is: epochs of all, steps of the epoch, images a second over the last half second, time spent "
        "training (pauses left out) and time to go at the speed of the last epochs. The last line says how it ended, "
        "its latest warning, or its best figure so far."
    )
    DEFAULT_CSS = "ProgressPane { height: 5; padding: 0 1; }"

    def on_mount(self) -> None:
        self.history = History()
        self.state = "running"
        self.waits: str | None = None  # why nothing happens yet

    def show(self, history: History) -> None:
        self.history = history
        self.refresh()

    def render(self) -> Text:
        progress, width = self.history.progress, self.content_size.width
        of_steps = progress.steps or 0
        done, of = progress.step_in_epoch, progress.steps_per_epoch or 0
        recent = [step.images_per_s for step in self.history.steps[-1:] if step.images_per_s]
        so_far = " so far" * (self.state in ("running", "paused"))
        times = [f"{duration(progress.elapsed)}{so_far}"] if progress.elapsed else []
        times += [f"eta {duration(progress.eta)}"] if progress.eta and self.state == "running" else []
        speed = [f"{number(recent[-1])} images/s"] if recent and self.state == "running" else []
        lines = [
            self._bar(
                "epoch", progress.epoch, progress.epochs, progress.step / of_steps if of_steps else 0, times, width
            ),
            self._bar("step", done, of, done / of if of else 0, speed, width),
            self._status(width),
        ]
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def _bar(self, name: str, done: int, of: int | None, share: float, more: list[str], width: int) -> Text:
        colours = self.app.theme_variables
        words = f"{done:>5}/{of or '?':<5} {min(1.0, share):>4.0%}"
        length = max(6, width - 6 - len(words) - 32)
        filled = round(min(1.0, max(0.0, share)) * length)
        done_colour = colours["success"] if self.state == "done" else colours["primary"]
        text = Text.assemble(
            (f"{name:<6}", "dim"), ("━" * filled, done_colour), ("─" * (length - filled), colours["border"])
        )
        text.append(f" {words}  ", "bold")
        return text.append("  ".join(more)[: max(0, width - text.cell_len)])

    def _status(self, width: int) -> Text:
        style, said = self._sentence()
        ascii = getattr(self.app, "ascii", False)
        more, best = "", self.history.best()
        if best is not None:
            split = self.history.best_metric.partition("_")[0]
            more = f"best on {split} {best[0]:.1f} % at epoch {best[1]}"
        said = printable(escaped(" ".join(said.split())), ascii)  # a cause may hold its fix on a line of its own
        if not said:
            return Text(fit(more, width))
        room = width - cell_len(more) - 3
        text = Text(fit(said, room if room >= min(30, cell_len(said)) else width, ascii), style)
        if text.cell_len + len(more) + 3 <= width:
            text.append(" " * (width - text.cell_len - len(more))).append(more, "not bold default")
        return text

    def _sentence(self) -> tuple[str, str]:
        history, colours = self.history, self.app.theme_variables
        if self.waits is not None:
            return colours["warning"], self.waits
        if history.finished is not None:
            wrong = history.finished.outcome in ("failed", "diverged")
            cause = f": {history.finished.cause}" if history.finished.cause else ""
            took = f" in {duration(history.elapsed)}" if history.elapsed else ""
            return (f"bold {colours['error']}" if wrong else "bold"), f"{history.finished.outcome}{took}{cause}"
        if self.state == "died":
            return f"bold {colours['error']}", "died: nobody trains it any more; . and go on resume it"
        if self.state == "paused":
            return colours["warning"], "paused; . and resume go on"
        if history.warnings:
            count = f"{len(history.warnings)} warnings, the last: " if len(history.warnings) > 1 else "warning: "
            return colours["warning"], count + history.warnings[-1].message
        if history.started is None:
            return "dim", "loading the data and building the model"
        return "", ""
