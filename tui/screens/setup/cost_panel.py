"""The cost panel: parameters, FLOPs, memory and time of the configuration, kept up to date while one types."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text
from textual import work
from textual.message import Message
from textual.widget import Widget

from convnn.costs.plan import LayerPlan, Plan
from convnn.text import count_text, duration, escaped, memory, number, plural
from tui.say import reporting_errors
from tui.screens.setup.cost_watch import CostWatch
from tui.screens.setup.draft import CheckedDraft

if TYPE_CHECKING:
    from tui.app import ConvnnApp

TIGHT, FULL = 0.8, 1.0  # shares of the free memory
TALL = 10  # lines from which on each figure has its own
SAME_DAY = 20 * 3600  # seconds up to which the end is shown without its date


class CostPanel(Widget):
    """Shows the plan of a checked draft beside what `costs` knows about this machine."""

    app: ConvnnApp
    DEFAULT_CSS = "CostPanel { padding: 0 1; }"
    help_title = "cost"
    HELP = (
        "The cost of this configuration, by arithmetic: parameters, FLOPs of the forward pass of one image (a "
        "multiply-add counts two), and the peak memory of training without torch and the data, beside what is free on "
        "the device now. Below, each size of feature map with its candidates. The time of an epoch is known from past "
        "runs of the same model on this machine; ctrl+t times a few real steps in a separate process."
    )

    class Measured(Message):
        """The time of an epoch is known."""

    def __init__(self, costs: CostWatch, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.costs = costs
        self.checked: CheckedDraft | None = None

    def show(self, checked: CheckedDraft) -> None:
        """Show the cost of a draft, and look for its epoch time in past runs."""
        self.checked = checked
        self.refresh()
        if not checked.problems and self.costs.epoch_time(checked.config) is None:
            self._search_past_runs(checked)

    @work(group="past runs", exclusive=True)
    async def _search_past_runs(self, checked: CheckedDraft) -> None:
        await self.costs.search_past_runs(checked.config, self.app.runs)
        self.post_message(self.Measured())
        self.refresh()

    async def read_memory(self) -> None:
        """Read how much memory is free on the device of the draft."""
        if self.checked is not None:
            await self.costs.read_memory(self.checked.config.runtime.device)
            self.refresh()

    def time_steps(self) -> None:
        if self.checked is None or self.checked.problems:
            self.app.say("steps can be timed when there are no problems", error=True)
        elif not self.costs.is_timing:
            self.run_worker(self._time_steps(self.checked), group="time steps")

    async def _time_steps(self, checked: CheckedDraft) -> None:
        self.call_next(self.refresh)
        with reporting_errors(self.app.say):
            await self.costs.time_steps(checked.config)
        self.post_message(self.Measured())
        self.refresh()

    def render(self) -> Text:
        if self.checked is None:
            return Text("counting ...", "dim")
        if self.checked.plan is None:
            return Text(escaped(f"Unknown: {self.checked.unplannable}."), "dim")
        if self.content_size.height >= TALL:
            return self._tall(self.checked.plan)
        return self._flat(self.checked.plan)

    @property
    def _data(self) -> Text:
        """The images of each split, or what will be downloaded, which stands out."""
        assert self.checked is not None
        text = Text(escaped(self.checked.data))
        if self.checked.is_downloaded:
            text.stylize(self.app.theme_variables["warning"])
        return text

    def _memory(self, plan: Plan) -> tuple[Text, Text]:
        need = Text(memory(plan.memory_bytes), "bold")
        free = self.costs.free_bytes
        if free is None:
            unknown = ""
            if self.costs.device:
                unknown = f"free memory of {self.costs.device} unknown"
            return need, Text(unknown, "dim")
        word, color = memory_verdict(plan.memory_bytes, free)
        need.append(f" of {memory(free)}", "not bold")
        return need, Text(word, f"bold {self.app.theme_variables[color]}")

    def _time(self) -> list[Text]:
        assert self.checked is not None
        if self.costs.is_timing:
            return [Text("timing a few steps ...", "italic")]
        config = self.checked.config
        epoch_time = self.costs.epoch_time(config)
        if epoch_time is None:
            return [Text("ctrl+t times a few steps", "dim")]
        epochs = config.training.num_epochs
        total = epoch_time.seconds * epochs
        format = "%H:%M" if total < SAME_DAY else "%a %d %b, %H:%M"
        end = time.strftime(format, time.localtime(self.app.now() + total))
        per_epoch = Text(duration(epoch_time.seconds), "bold").append("/epoch", "not bold")
        return [
            per_epoch,
            Text(f"{plural(epochs, 'epoch')} in {duration(total)}: {end}"),
            Text(epoch_time.source, "dim"),
        ]

    def _tall(self, plan: Plan) -> Text:
        data_lines = self._data.wrap(self.app.console, max(10, self.content_size.width - 11))
        parameters = Text(with_prefix(plan.parameters), "bold").append(f"  {plan.parameters:,}", "not bold dim")
        rows = [
            ("parameters", parameters),
            ("compute", _flops(plan)),
            *zip(("memory", ""), self._memory(plan), strict=True),
            *zip(("time", "", ""), self._time(), strict=False),
            *zip(("data", *[""] * len(data_lines)), data_lines, strict=False),
        ]
        text = Text()
        for name, value in rows:
            text.append(f"{name:<11}", "dim").append_text(_with_base_style(value)).append("\n")
        text.append(f"\n{'map':<11}{'candidates':>10}{'K':>6}{'layers':>8}\n", "dim")
        for (size, candidates, k), layers in feature_maps(plan.layers).items():
            text.append(f"{size:<11}", "bold").append(f"{candidates:>10}{k:>6}{layers:>8}\n")
        return text

    def _flat(self, plan: Plan) -> Text:
        separator = ("  ·  ", "dim")
        need, verdict = map(_with_base_style, self._memory(plan))
        text = Text.assemble((with_prefix(plan.parameters), "bold"), " parameters", separator)
        text.append_text(_with_base_style(_flops(plan))).append(*separator)
        text.append_text(need).append("  ").append_text(verdict).append("\n")
        text.append("maps ", "dim")
        maps = list(feature_maps(plan.layers))
        _, first_candidates, first_k = maps[0]
        if first_candidates == "-":
            text.append(" ".join(size for size, _, _ in maps)).append("  no neighbors", "dim")
        else:
            text.append("  ".join(f"{size}: {candidates}" for size, candidates, _ in maps))
            text.append(f" candidates for K {first_k}", "dim")
        text.append("\n")
        per_epoch, *details = map(_with_base_style, self._time())
        text.append_text(per_epoch)
        for detail in details:
            text.append(*separator).append_text(detail)
        return text.append("\n").append_text(_with_base_style(self._data))


def with_prefix(value: float) -> str:
    """A number with a space before its prefix: "129 M"."""
    text = number(value)
    if text[-1:].isalpha():
        return f"{text[:-1]} {text[-1]}"
    return text


def _flops(plan: Plan) -> Text:
    return Text(f"{with_prefix(plan.flops)}FLOPs", "bold").append("/image", "not bold")


def _with_base_style(text: Text) -> Text:
    """The text with its base style as a span, which survives being appended."""
    return Text().append_text(text)


def memory_verdict(need: int, free: int) -> tuple[str, str]:
    """Whether so many bytes fit, in a word, and the color of it."""
    share = need / max(free, 1)
    if share < TIGHT:
        return "fits", "success"
    if share < FULL:
        return "tight", "warning"
    return "will not fit", "error"


def feature_maps(layers: tuple[LayerPlan, ...]) -> Counter[tuple[str, str, str]]:
    """The number of layers on each (size, candidates, K) of feature map, in the order they come."""
    return Counter(
        (f"{layer.map[0]}x{layer.map[1]}", count_text(layer.candidates), count_text(layer.K)) for layer in layers
    )
