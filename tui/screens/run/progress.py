"""The progress pane: epochs and steps, speed and time, and how the run is or ended."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from convnn.runs.history import History
from convnn.terminal.report import ProgressBar, Tone, best_epoch, progress_bars, status_sentence
from convnn.text import escaped, fit, one_line
from tui.screens.run.pane import Changes, Pane, tone_style


class ProgressPane(Pane):
    """Epochs and steps as bars with speed and times; below them a line about the status and the best epoch."""

    ID = "progress"
    TITLE = "progress"
    HELP = (
        "How far the run is: epochs of all, steps of the epoch, images/s over the last half second, time spent "
        "training (without pauses) and the estimated time left at the speed of the last epochs. The last line says how "
        "the run ended, its latest warning, and its best epoch so far."
    )
    MIN_HEIGHT = 5
    DEFAULT_CSS = "ProgressPane { height: 5; padding: 0 1; }"

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.history = History()
        self.status = "running"
        self.host: str | None = None  # the other node that trains it
        self.notice = ""  # shown instead of the status, e.g. what a queued run waits for

    def show(self, history: History, changes: Changes) -> None:
        self.history, self.status, self.host, self.notice = history, changes.status, changes.host, ""
        self.refresh()

    def show_notice(self, notice: str) -> None:
        self.notice = notice
        self.refresh()

    def render(self) -> Text:
        bars = [self._bar(bar) for bar in progress_bars(self.history, self.status)]
        return Text("\n", no_wrap=True, overflow="crop").join([*bars, self._status_line()])

    def _bar(self, bar: ProgressBar) -> Text:
        width, colors = self.content_size.width, self.app.theme_variables
        count = f"{bar.done:>5}/{bar.total or '?':<5} {bar.fraction:>4.0%}"
        length = max(6, width - 6 - len(count) - 32)
        filled = round(bar.fraction * length)
        fill_color = colors["success" if self.status == "done" else "primary"]
        text = Text.assemble(
            (f"{bar.name:<6}", "dim"), ("━" * filled, fill_color), ("─" * (length - filled), colors["border"])
        )
        text.append(f" {count}  ", "bold")
        return text.append("  ".join(bar.notes)[: max(0, width - text.cell_len)])

    def _status_line(self) -> Text:
        """The status at the left and, where there is room, the best epoch at the right."""
        width = self.content_size.width
        message, tone = self._status_message()
        best = " ".join(best_epoch(self.history) or ())
        if not message:
            return Text(fit(best, width))
        message = escaped(one_line(message))
        space = width - cell_len(best) - 3
        if space < min(30, cell_len(message)):
            space = width
        text = Text(fit(message, space), tone_style(self, tone))
        if text.cell_len + len(best) + 3 <= width:
            text.append(" " * (width - text.cell_len - len(best))).append(best, "not bold default")
        return text

    def _status_message(self) -> tuple[str, Tone]:
        if self.notice:
            return self.notice, "warning"
        message, tone = status_sentence(self.history, self.status)
        if self.host and not message:
            message, tone = f"{self.status} on {self.host}", "dim"
        if self.status == "paused":
            message += ": press . to resume"
        elif self.status == "died":
            message += "; press . to resume"
        return message, tone
