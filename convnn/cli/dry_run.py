"""What `convnn run --dry-run` shows: the resolved configuration, where each value comes from, and what it costs."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from convnn.cli.output import cell, print_grid, write_json
from convnn.config.active import inactive_options
from convnn.config.options import OPTIONS, SECTIONS, value_at
from convnn.costs.memory import memory_place
from convnn.costs.memory_fit import shortage
from convnn.costs.plan import Plan, plan
from convnn.data.catalog import data_summary, split_sizes
from convnn.data.splits import num_batches, small_last_batch
from convnn.errors import Exit
from convnn.hardware import free_memory
from convnn.presets.resolve import Resolved
from convnn.runs.run import not_free
from convnn.terminal.console import out, say
from convnn.text import memory, plural, prefixed

ASSUMED_CLASSES = 10  # where a folder that is not here leaves the number unknown


def planned(resolved: Resolved) -> Plan | None:
    """Return the cost of a configuration; None where the size of its images is not known."""
    dataset = resolved.dataset
    if dataset.image_size is None:
        return None
    return plan(resolved.config, dataset.image_size, dataset.num_classes or ASSUMED_CLASSES)


def show_plan(resolved: Resolved, *, as_json: bool, takes_over: bool = False) -> None:
    """Print what would be trained; nothing is decoded, written or trained.

    `takes_over` says that a run in --output_dir is no obstacle.
    """
    cost = planned(resolved)
    _warn(resolved, takes_over)
    if as_json:
        return write_json(_document(resolved, cost))
    print_grid(_grid(resolved))
    dataset, data = resolved.dataset, resolved.config.data
    summary = data_summary(data.dataset, data.path, dataset, limit=data.limit, val_share=data.val_share)
    out().print_line(f"data: {summary}")
    for note in dataset.notes:
        out().print_line(f"  {note}")
    if cost is None:
        return out().print_line("cost: unknown until the images are there")
    facts = [
        f"{cost.parameters:,} parameters",
        f"{prefixed(cost.flops)} FLOPs/image",
        f"about {memory(cost.memory_bytes)} of memory while training{memory_place(resolved.config)}",
    ]
    if num_images := _training_images(resolved):
        training = resolved.config.training
        steps = num_batches(num_images, training.batch_size, drop_last=training.drop_last)
        facts.append(plural(steps, "step/epoch", "steps/epoch"))
    out().print_line(" · ".join(facts))
    candidates = sorted({layer.candidates for layer in cost.layers if layer.candidates is not None}, reverse=True)
    if candidates:
        counts = ", ".join(map(str, candidates))
        out().print_line(f"K = {plural(resolved.config.layer.K, 'neighbor')}; candidates at each map size: {counts}")
    return None


def _warn(resolved: Resolved, takes_over: bool) -> None:
    """Print what would keep the run from starting, and a shortage of memory."""
    for problem in (resolved.dataset.problem, _device_problem(resolved)):
        if problem is not None:
            say(f"warning: {problem}")
            say(f"  (a run would end with exit code {int(Exit.DATA)})")
    output = resolved.config.output
    if output.dir is not None and not output.test_only:
        problem = not_free(Path(output.dir), takes_over=takes_over)
        if problem is not None:
            say(f"warning: {problem}")
            say(f"  (a run would end with exit code {int(Exit.USAGE)})")
    dataset = resolved.dataset
    if dataset.image_size is not None:
        free = free_memory(resolved.config.runtime.device)[1]
        classes = dataset.num_classes or ASSUMED_CLASSES
        if warning := shortage(resolved.config, dataset.image_size, classes, free):
            say(f"warning: {warning}")
    if num_images := _training_images(resolved):
        training = resolved.config.training
        if warning := small_last_batch(num_images, training.batch_size, drop_last=training.drop_last):
            say(f"warning: {warning}")


def _device_problem(resolved: Resolved) -> str | None:
    """Return that the named device is missing, if it is; only a name needs torch."""
    name = resolved.config.runtime.device
    if name in ("auto", "cpu"):
        return None
    from convnn.training.device import available_devices

    devices = available_devices()
    if name in devices:
        return None
    available = ", ".join(devices)
    return f"runtime.device is {name!r}: there is no such device here (available: {available}); use --device auto"


def _training_images(resolved: Resolved) -> int | None:
    data = resolved.config.data
    return split_sizes(resolved.dataset, data.limit, data.val_share).get("train")


def _grid(resolved: Resolved) -> Table:
    """Return a row per option: key, value, and where the value comes from; what is no default comes first."""
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("option", "value", "from"):
        grid.add_column(heading, overflow="fold")
    inactive = inactive_options(resolved.config)
    for option in sorted(OPTIONS, key=lambda o: (resolved.origins[o.key] == "default", SECTIONS.index(o.section))):
        origin, style = resolved.origins[option.key], "bold"
        if option.key in inactive:
            origin, style = f"{origin} (no effect here)", "dim"
        elif origin == "default":
            style = ""
        value = option.text(value_at(resolved.config, option.key)) or "none"
        grid.add_row(*(cell(text, style) for text in (option.key, value, origin)))
    return grid


def _data_document(resolved: Resolved) -> dict[str, object]:
    dataset, data = resolved.dataset, resolved.config.data
    return {
        "classes": list(dataset.classes),
        "num_classes": dataset.num_classes,
        "images": split_sizes(dataset, data.limit, data.val_share),
        "notes": list(dataset.notes),
        "problem": dataset.problem and dataset.problem.json(),
        "download_bytes": dataset.download and dataset.download.bytes,
    }


def _document(resolved: Resolved, cost: Plan | None) -> dict[str, object]:
    return {
        "config": resolved.config.model_dump(mode="json"),
        "origins": dict(resolved.origins),
        "notes": list(resolved.notes),
        "data": _data_document(resolved),
        "cost": cost and cost.json(),
    }
