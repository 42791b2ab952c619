"""`convnn summary`: what configurations cost, layer by layer, without torch and without data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from convnn.cli import arguments
from convnn.cli.dry_run import ASSUMED_CLASSES
from convnn.cli.output import cell, print_grid, write_json
from convnn.costs.memory import memory_place
from convnn.costs.plan import Plan, plan
from convnn.errors import UserError
from convnn.presets.resolve import Resolved, resolve_named
from convnn.terminal.console import out, say
from convnn.text import count_text, memory, number, prefixed

EXAMPLES = """
convnn summary quickstart
convnn summary vgg11-conv2d vgg11-convnn-spatial --json
convnn summary --model resnet18 --layer Branching --K 5 --dataset cifar100
"""


def summary(
    presets: arguments.Presets = None,
    *,
    typed: dict[str, Any],
    num_classes: Annotated[
        int | None,
        typer.Option("--num_classes", metavar="N", min=1, help="number of classes; without it that of the data set"),
    ] = None,
    as_json: arguments.Json = False,
) -> None:
    """Show parameters, FLOPs, memory and candidates of presets, or of the options given.

    FLOPs are those of one image forward, a multiply-add counting two; selection, normalization and pooling are not
    counted. Memory is the estimated peak of training at the configured batch size.
    """
    names: Sequence[str | None] = presets or [None]
    resolutions = [(name, resolve_named(name, typed)) for name in names]
    if problems := [problem for _, resolved in resolutions for problem in resolved.problems]:
        raise UserError(problems)
    costs = [(name, resolved, _cost(resolved, num_classes)) for name, resolved in resolutions]
    if as_json:
        return write_json({"summaries": [{"preset": name, **cost.json()} for name, _, cost in costs]})
    for name, resolved, cost in costs:
        for note in resolved.notes:
            say(f"note: {note}")
        _print(name, resolved, cost)
    return None


def _cost(resolved: Resolved, num_classes: int | None) -> Plan:
    dataset = resolved.dataset
    if dataset.image_size is None:
        fix = "use --resize, or give --data_path"
        raise UserError("the size of the images is not known", key="data.resize", fix=fix)
    if dataset.num_classes is None and num_classes is None:
        say(f"note: the number of classes is not known; {ASSUMED_CLASSES} are assumed (--num_classes)")
    return plan(resolved.config, dataset.image_size, num_classes or dataset.num_classes or ASSUMED_CLASSES)


def _print(name: str | None, resolved: Resolved, cost: Plan) -> None:
    config = resolved.config
    assert resolved.dataset.image_size is not None
    height, width = resolved.dataset.image_size
    title = f"{config.model.name} {config.layer.type} on {height}x{width}"
    if name:
        title = f"{name}: {title}"
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title=cell(title), title_justify="left")
    for heading in ("slot", "in", "out", "map", "candidates", "K", "parameters", "FLOPs"):
        table.add_column(heading, justify="left" if heading == "slot" else "right")
    for layer in cost.layers:
        table.add_row(
            layer.slot,
            str(layer.in_channels),
            str(layer.out_channels),
            f"{layer.map[0]}x{layer.map[1]}",
            count_text(layer.candidates),
            count_text(layer.K),
            f"{layer.parameters:,}",
            number(layer.flops),
        )
    rest = cost.parameters - sum(layer.parameters for layer in cost.layers)
    rest_flops = cost.flops - sum(layer.flops for layer in cost.layers)
    table.add_row("head and others", "", "", "", "", "", f"{rest:,}", number(rest_flops))
    print_grid(table)
    out().print_line(
        f"{cost.parameters:,} parameters · {prefixed(cost.flops)} FLOPs/image · "
        f"about {memory(cost.memory_bytes)} of memory at batch size {config.training.batch_size}{memory_place(config)}"
    )
