"""What the configuration will cost, kept true while one types: size, work, memory and time."""

from __future__ import annotations

import time

from rich.text import Text
from textual.widget import Widget

from convnn.costs.plan import LayerPlan, Plan
from convnn.text import duration, memory, number
from tui.screens.setup.draft import Checked
from tui.screens.setup.epoch_time import Pace

FITS, TIGHT = 0.8, 1.0  # shares of the free memory
TALL = 10  # lines from which on there is a line for each figure


class Cost(Widget):
    """Parameters, FLOPs, memory against the device's, candidates and K of each map, seconds an epoch, and the end."""

    DEFAULT_CSS = "Cost { padding: 0 1; }"
    help_title = "cost"
    HELP = (
        "What this configuration will cost, by arithmetic: parameters, FLOPs of one image forward (a multiply-add "
        "counts two), and the peak of training memory beyond torch and the data, against what is free on the device "
        "now. Below, each size of map with its candidates. The time of an epoch is known from runs of the same model "
        "on this machine; ctrl+t times a few real steps in a process of its own."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.checked: Checked | None = None
        self.device = "device"
        self.free: int | None = None
        self.pace: Pace | None = None
        self.timing = False
        self.now = time.time

    def tell(self, checked: Checked, device: str, free: int | None, pace: Pace | None, timing: bool) -> None:
        """Show these."""
        self.checked, self.device, self.free, self.pace, self.timing = checked, device, free, pace, timing
        self.refresh()

    def render(self) -> Text:
        if self.checked is None:
            return Text("counting ...", "dim")
        plan = self.checked.plan
        if plan is None:
            what = "this does not fit the model" if self.checked.problems else "the size of the images is not known"
            return Text(f"Not known: {what}.", "dim")
        return self._tall(plan) if self.content_size.height >= TALL else self._flat(plan)

    # -- figures ----------------------------------------------------------------------------------------------------

    def _memory(self, plan: Plan) -> list[Text]:
        need = Text(memory(plan.memory_bytes), "bold")
        if self.free is None:
            return [need, Text(f"{self.device}'s is unknown", "dim")]
        word, colour = verdict(plan.memory_bytes, self.free)
        need.append(f" of {memory(self.free)}", "not bold")
        return [need, Text(word, f"bold {self.app.theme_variables[colour]}")]

    def _time(self) -> list[Text]:
        assert self.checked is not None
        if self.timing:
            return [Text("timing a few steps ...", "italic")]
        if self.pace is None:
            return [Text("ctrl+t times a few steps", "dim")]
        epochs = self.checked.config.training.num_epochs
        whole = self.pace.seconds * epochs
        end = time.localtime(self.now() + whole)
        at = time.strftime("%H:%M" if whole < 20 * 3600 else "%a %d %b, %H:%M", end)
        first = Text(duration(self.pace.seconds), "bold").append(" an epoch", "not bold")
        return [first, Text(f"{epochs} epochs in {duration(whole)}: {at}"), Text(self.pace.source, "dim")]

    def _tall(self, plan: Plan) -> Text:
        rows: list[tuple[str, Text]] = [
            ("parameters", Text(figure(plan.parameters), "bold").append(f"  {plan.parameters:,}", "not bold dim")),
            ("an image", Text(f"{figure(plan.flops)}FLOPs", "bold")),
            *zip(("memory", ""), self._memory(plan), strict=True),
            *zip(("time", "", ""), self._time(), strict=False),
        ]
        text = Text()
        for name, value in rows:
            text.append(f"{name:<11}", "dim").append_text(_styled(value)).append("\n")
        text.append(f"\n{'map':<11}{'candidates':>10}{'K':>6}{'layers':>8}\n", "dim")
        for side, candidates, K, layers in maps(plan.layers):
            text.append(f"{side:<11}", "bold").append(f"{candidates:>10}{K:>6}{layers:>8}\n")
        return text

    def _flat(self, plan: Plan) -> Text:
        dot = ("  ·  ", "dim")
        time = self._time()
        line = [_styled(part) for part in time[:2]]
        size, work = (figure(plan.parameters), "bold"), (f"{figure(plan.flops)}FLOPs", "bold")
        text = Text.assemble(size, " parameters", dot, work, " an image", dot)
        need, word = self._memory(plan)
        text.append_text(_styled(need)).append("  ").append_text(_styled(word)).append("\n")
        text.append("maps ", "dim")
        looked = [(side, candidates, K) for side, candidates, K, _ in maps(plan.layers)]
        if looked[0][1] == "-":
            text.append(" ".join(side for side, _, _ in looked)).append("  no neighbours", "dim")
        else:
            text.append("  ".join(f"{side}: {candidates}" for side, candidates, _ in looked))
            text.append(f" candidates for K {looked[0][2]}", "dim")
        text.append("\n")
        for at, part in enumerate(line):
            text.append(*dot) if at else text
            text.append_text(part)
        return text.append(f"  ·  {time[2].plain}", "dim") if len(time) > 2 else text


def figure(value: float) -> str:
    """A figure with a space before its unit: 129 M."""
    text = number(value)
    return f"{text[:-1]} {text[-1]}" if text[-1:].isalpha() else text


def _styled(text: Text) -> Text:
    return Text().append_text(text)


def verdict(need: int, free: int) -> tuple[str, str]:
    """Whether that much memory fits, in a word, and the colour of it."""
    share = need / max(free, 1)
    return ("fits", "success") if share < FITS else ("tight", "warning") if share < TIGHT else ("will not fit", "error")


def maps(layers: tuple[LayerPlan, ...]) -> list[tuple[str, str, str, int]]:
    """(map, candidates, K, layers on it) of each size of map, in the order they come."""
    found: dict[tuple[str, str, str], int] = {}
    for layer in layers:
        key = (
            f"{layer.map[0]}x{layer.map[1]}",
            "-" if layer.candidates is None else str(layer.candidates),
            "-" if layer.K is None else str(layer.K),
        )
        found[key] = found.get(key, 0) + 1
    return [(*key, count) for key, count in found.items()]
