"""`convnn lr-range`: the loss of a preset while its learning rate rises from step to step, and a rate to train with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.output import print_sentences, write_json
from convnn.config.options import OPTIONS
from convnn.data.catalog import data_summary
from convnn.errors import Exit, UserError
from convnn.hardware import check_device
from convnn.presets.resolve import Resolved, resolve_with_data
from convnn.presets.store import read
from convnn.terminal.console import err, out, say
from convnn.text import power_of_ten

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig
    from convnn.training.lr_range import RampStep, Suggestion

MIN_STEPS, MAX_STEPS = 20, 100_000
CHART_WIDTH, CHART_HEIGHT = 100, 16  # cells at most
CHARTED_RISE = 1.5  # times the first smoothed loss: beyond it a diverging curve would flatten the rest
WITHOUT_EFFECT = {"optimizer.lr", "runtime.processes"}
WITHOUT_EFFECT |= {f"training.{name}" for name in ("num_epochs", "early_stop", "ema_decay", "bn_recalibrate")}
OTHER_SECTIONS = ("scheduler", "checkpoint", "run", "output")
FLAGS = [o for o in OPTIONS if o.section not in OTHER_SECTIONS and o.key not in WITHOUT_EFFECT]
EXAMPLES = """
convnn lr-range quickstart
convnn lr-range vgg11-conv2d --steps 200 --min_lr 1e-5 --max_lr 1
convnn lr-range quickstart --optimizer sgd --json
"""


def lr_range(
    preset: arguments.Preset = None,
    *,
    typed: dict[str, Any],
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=MIN_STEPS, max=MAX_STEPS, help="training steps of the ramp")
    ] = 100,
    min_lr: Annotated[float, typer.Option("--min_lr", metavar="LR", help="learning rate of the first step")] = 1e-6,
    max_lr: Annotated[float, typer.Option("--max_lr", metavar="LR", help="learning rate of the last step")] = 10.0,
    as_json: arguments.Json = False,
) -> None:
    """Show the loss while the learning rate rises from step to step, and suggest a rate.

    Each step multiplies the rate by the same factor. The ramp ends where the loss diverges. Nothing is written.
    """
    _check_rates(min_lr, max_lr)
    chosen = None
    if preset is not None:  # without what a ramp does not do: epochs, evaluation, checkpoints
        chosen, keys = read(preset), {option.key for option in FLAGS}
        chosen = replace(chosen, values={key: value for key, value in chosen.values.items() if key in keys})
    resolved = resolve_with_data(chosen, typed)
    config = resolved.checked()
    for note in resolved.notes:
        say(f"note: {note}")
    if resolved.dataset.problem is not None:
        raise UserError(resolved.dataset.problem, Exit.DATA)
    check_device(config.runtime.device)
    if resolved.dataset.download is not None:
        say(f"note: {data_summary(config.data.dataset, config.data.path, resolved.dataset)}")
    points = _measure(resolved, config, min_lr, max_lr, steps)
    from convnn.training.lr_range import smooth, suggest

    finite = [point for point in points if math.isfinite(point.loss)]
    smoothed = smooth([point.loss for point in finite], steps).tolist()
    suggestion = suggest(finite, steps)
    diverged = len(points) < steps or len(finite) < len(points)
    if as_json:
        document = {
            "steps": steps,
            "min_lr": min_lr,
            "max_lr": max_lr,
            "diverged": diverged,
            "lr": [point.lr for point in points],
            "loss": [point.loss for point in points],
            "smoothed_loss": smoothed + [math.nan] * (len(points) - len(finite)),
            "suggestion": suggestion.lr,
            "reason": suggestion.reason,
        }
        return write_json(document)
    _print_chart(points, smoothed, suggestion)
    if diverged:
        print_sentences(
            [f"the loss diverges at lr {power_of_ten(points[-1].lr)}, after {len(points)} of {steps} steps"]
        )
    if suggestion.lr is None:
        return print_sentences([f"no suggestion: {suggestion.reason}"])
    word = f"--lr {power_of_ten(suggestion.lr)}"
    return print_sentences([f"suggestion: {word}, where the smoothed loss falls most steeply"])


def _check_rates(min_lr: float, max_lr: float) -> None:
    """Raise UserError unless both are positive numbers and the second is the larger."""
    for flag, value in (("min_lr", min_lr), ("max_lr", max_lr)):
        if not 0 < value < math.inf:
            raise UserError(f"--{flag} is {value}: must be a number above 0", key=flag, value=value)
    if min_lr >= max_lr:
        message = f"--min_lr is {min_lr:g}: must be below --max_lr, which is {max_lr:g}"
        raise UserError(message, key="min_lr", value=min_lr)


def _measure(resolved: Resolved, config: RunConfig, min_lr: float, max_lr: float, steps: int) -> list[RampStep]:
    """Train the ramp and return its steps. Raises UserError where memory, device or data do not suffice."""
    say("loading torch ...")
    from convnn.training import device as training_device
    from convnn.training.lr_range import ramp, ramp_steps
    from convnn.training.trainer import Trainer
    from convnn.worker.failures import RunContext, classify_failure

    device = training_device.select_device(config)
    memory = training_device.total_memory(device)
    points: list[RampStep] = []
    trainer = None
    try:
        trainer = Trainer.from_config(config)
        for warning in [*trainer.warnings, *trainer.state.data.warnings]:
            say(f"warning: {warning}")
        training_steps = ramp_steps(trainer, ramp(min_lr, max_lr, steps))
        with err().status("first step", spinner="line") as status, closing(training_steps):
            for point in filter(None, training_steps):
                points.append(point)
                status.update(f"step {len(points)}/{steps}  lr {power_of_ten(point.lr)}  loss {point.loss:.4g}")
        for warning in trainer.state.train_loader.warnings:
            say(f"warning: {warning}")
    except Exception as error:
        dataset = resolved.dataset
        context = RunContext(config, dataset.image_size, dataset.num_classes, memory, started=trainer is not None)
        failure = classify_failure(error, context)
        if isinstance(error, UserError) or failure.code == Exit.FAILED:
            raise
        raise UserError(failure.cause, failure.code) from error
    return points


def _print_chart(points: Sequence[RampStep], smoothed: list[float], suggestion: Suggestion) -> None:
    """Print the smoothed loss over the learning rate, before that of each step."""
    from convnn.charts.chart import Series, draw

    console = out()
    end = next((i for i, loss in enumerate(smoothed) if loss > CHARTED_RISE * smoothed[0]), len(smoothed))
    rates = [point.lr for point in points[:end]]
    marks = []
    if suggestion.lr is not None:
        marks.append((suggestion.lr, "suggestion"))
    chart = draw(
        [
            Series("smoothed", rates, smoothed[:end]),
            Series("step", rates, [point.loss for point in points[:end]], is_background=True),
        ],
        min(console.width, CHART_WIDTH),
        CHART_HEIGHT,
        x="lr",
        log_x=True,
        marks=marks,
        letters=console.is_ascii_only,
    )
    console.print_line("loss", "bold")
    for line in chart.lines:
        console.print(line, soft_wrap=True)
