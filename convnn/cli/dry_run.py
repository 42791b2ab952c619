"""What `convnn run --dry-run` shows: the resolved configuration, where each value comes from, and what it costs."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from convnn.cli.console import cell, out, print_grid, say, write_json
from convnn.config.active import inactive_options
from convnn.config.options import OPTIONS, SECTIONS, value_at
from convnn.costs.fit import shortage
from convnn.costs.plan import Plan, plan
from convnn.errors import Exit
from convnn.hardware import free_memory
from convnn.presets.resolve import Resolved
from convnn.runs.run import is_run
from convnn.text import memory, number

CLASSES = 10  # assumed where a folder that is not here leaves them unknown


def planned(resolved: Resolved) -> Plan | None:
    """The cost of a configuration; None where the size of its images is not known."""
    dataset = resolved.dataset
    if dataset.image_size is None:
        return None
    return plan(resolved.config, dataset.image_size, dataset.num_classes or CLASSES)


def show_plan(resolved: Resolved, *, as_json: bool, takes_over: bool = False) -> None:
    """Print what would be trained; nothing is decoded, written or trained.

    `takes_over` says that a run in --output_dir is no obstacle.
    """
    for problem in (resolved.dataset.problem, _device_problem(resolved)):
        if problem is not None:
            say(f"warning: {problem}")
            say(f"  (a run would end with exit code {int(Exit.DATA)})")
    output = resolved.config.output
    if output.dir is not None and not output.test_only and not takes_over and is_run(Path(output.dir)):
        say(f"warning: {output.dir} holds a run already: --resume goes on with it, --overwrite replaces it")
        say(f"  (a run would end with exit code {int(Exit.USAGE)})")
    cost = planned(resolved)
    if cost is not None and (said := _shortage(resolved)):
        say(f"warning: {said}")
    if as_json:
        return write_json(_document(resolved, cost))
    console = out()
    print_grid(_table(resolved))
    if cost is None:
        console.print("cost: unknown until the images are there")
        return None
    steps = _steps(resolved)
    console.print(
        f"{cost.parameters:,} parameters · {number(cost.flops)} FLOPs an image · "
        f"about {memory(cost.memory_bytes)} of memory while training"
        + (f" · {steps:,} steps an epoch" if steps else ""),
        soft_wrap=True,
    )
    pools = sorted({layer.candidates for layer in cost.layers if layer.candidates is not None}, reverse=True)
    if pools:
        console.print(
            f"K = {resolved.config.layer.K} of {', '.join(map(str, pools))} candidates, map by map", soft_wrap=True
        )
    return None


def _shortage(resolved: Resolved) -> str | None:
    """Whether training is expected to take more memory than is free now."""
    dataset = resolved.dataset
    assert dataset.image_size is not None
    free = free_memory(resolved.config.runtime.device)[1]
    return shortage(resolved.config, dataset.image_size, dataset.num_classes or CLASSES, free)


def _device_problem(resolved: Resolved) -> str | None:
    """Whether the device asked for by name is missing; that takes torch, so it is asked only then."""
    name = resolved.config.runtime.device
    if name in ("auto", "cpu"):
        return None
    from convnn.training.device import available_devices

    return None if name in available_devices() else f"runtime.device is {name!r}: there is no such device here"


def _steps(resolved: Resolved) -> int | None:
    images, config = resolved.dataset.train_images, resolved.config
    if images is None:
        return None
    images = min(images, config.data.limit or images)
    images -= round(images * config.data.val_share)
    return -(-images // config.training.batch_size)


def _table(resolved: Resolved) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("option", "value", "from"):
        table.add_column(heading, overflow="fold")
    inactive = inactive_options(resolved.config)
    for section in SECTIONS:
        for option in OPTIONS:
            if option.section != section:
                continue
            origin = resolved.origins[option.key]
            note = " (no effect here)" if option.key in inactive else ""
            style = "dim" if note else "" if origin == "default" else "bold"
            shown = option.text(value_at(resolved.config, option.key)) or "none"
            table.add_row(cell(option.key, style), cell(shown, style), cell(origin + note, style))
    return table


def _document(resolved: Resolved, cost: Plan | None) -> dict[str, object]:
    return {
        "config": resolved.config.model_dump(mode="json"),
        "origins": dict(resolved.origins),
        "notes": list(resolved.notes),
        "cost": cost.json() if cost else None,
    }
