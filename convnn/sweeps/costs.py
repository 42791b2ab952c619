"""What a sweep costs before it starts: FLOPs, time by past runs, disk, and the difference that its repeats detect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median
from typing import Any

from pydantic import ValidationError

from convnn import hardware
from convnn.analysis.fields import RUN_FIELDS
from convnn.analysis.repeats import NoiseFloor, noise_floor, published_noise_floor
from convnn.analysis.statistics import detectable_effect
from convnn.config.schema import RunConfig
from convnn.costs.memory import optimizer_states
from convnn.costs.plan import Plan
from convnn.costs.plan import plan as plan_costs
from convnn.data.catalog import published_info
from convnn.errors import UserError
from convnn.runs.summary import Summary
from convnn.sweeps.plan import Cell, SweepPlan, epoch_flops
from convnn.sweeps.search.settings import Search
from convnn.text import duration, memory, number, plural, prefixed

MAX_TIMED = 20  # runs whose speed is used, the newest ones
MAX_READ = 200  # histories that are read for that: most may be of other machines
SCALE = 100  # an epoch of a past run may be so much shorter: a shorter one says little about a long one
KEPT_CHECKPOINTS = 2  # of a finished run: best and last
BYTES = 4  # of a parameter
MORE_SEEDS = 2  # what repeats detect is told for the seeds of the sweep and for so many more


@dataclass(frozen=True)
class SweepCost:
    """The cost of the cells that are left to train; None where it is unknown."""

    cells: int
    epochs: int
    flops: int | None
    known_flops: int  # of the cells whose data have a published size
    seconds: float | None  # one run after another, on this machine
    timed_by: str  # which runs the time is from
    disk_bytes: int | None
    optimizer_bytes: int | None  # beside that, where optimizer states are kept
    noise: NoiseFloor | None
    seeds: int

    def lines(self) -> list[str]:
        """Return the cost in sentences."""
        lines = []
        if self.known_flops:
            lines.append(f"{prefixed(self.known_flops)} FLOPs of training in {plural(self.epochs, 'epoch')}")
            if self.flops is None:
                lines[0] += ", of the cells whose data is known"
        if self.seconds is not None:
            lines.append(f"about {duration(self.seconds)} of training, one run after another here, by {self.timed_by}")
        if self.disk_bytes is not None and self.optimizer_bytes is not None:
            whole = memory(self.disk_bytes + self.optimizer_bytes)
            lines.append(f"{memory(self.disk_bytes)} of disk, {whole} with optimizer states (--keep_optimizer)")
        if (text := self.detection_text()) is not None:
            lines.append(text)
        return lines

    def detection_text(self) -> str | None:
        """Return what the repeats can show: "3 seeds detect a difference of about 1.7 points; 5 would detect 1"."""
        if self.noise is None or not self.noise.sd:
            return None
        more = self.seeds + MORE_SEEDS
        bounds = [detectable_effect(self.noise.sd, count) for count in (self.seeds, more)]
        source = f"(run-to-run standard deviation {number(self.noise.sd)}, {self.noise.source})"
        if bounds[1] is None:
            return None
        if bounds[0] is None:
            return f"1 seed has no spread to test by; {more} seeds detect about {bounds[1]:.2g} points {source}"
        return (
            f"{self.seeds} seeds detect a difference of about {bounds[0]:.2g} points; {more} would detect "
            f"{bounds[1]:.2g} {source}"
        )

    def json(self) -> dict[str, Any]:
        detects = None
        if self.noise is not None and self.noise.sd:
            detects = detectable_effect(self.noise.sd, self.seeds)
        return {
            "flops": self.flops,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "disk_bytes": self.disk_bytes,
            "optimizer_bytes": self.optimizer_bytes,
            "seeds": self.seeds,
            "detects": detects,
        }


def sweep_cost(plan: SweepPlan, left: Sequence[Cell], runs: Sequence[Summary]) -> SweepCost:
    """Return what the cells that are left to train cost, or a search at most, and what the repeats of all can show.

    `runs` are past runs, the newest first: their speed on this machine gives the time.
    """
    if plan.sweep.search is not None:
        return _search_cost(plan, plan.sweep.search, runs)
    return _cells_cost(plan, left, runs)


def _cells_cost(plan: SweepPlan, left: Sequence[Cell], runs: Sequence[Summary]) -> SweepCost:
    flops = [cell.training_flops for cell in left]
    known = [value for value in flops if value is not None]
    seconds, timed_by = _seconds(left, runs)
    costs = [cost for cell in left if (cost := _cost(cell.config)) is not None]
    disk_bytes = optimizer_bytes = None
    if len(costs) == len(left):
        copies = [1 if cell.config.training.ema_decay is None else 2 for cell in left]  # of the weights
        states = [optimizer_states(cell.config) for cell in left]
        disk_bytes = KEPT_CHECKPOINTS * BYTES * sum(c * cost.parameters for c, cost in zip(copies, costs, strict=True))
        optimizer_bytes = BYTES * sum(s * cost.trained_numbers for s, cost in zip(states, costs, strict=True))
    return SweepCost(
        cells=len(left),
        epochs=sum(cell.config.training.num_epochs for cell in left),
        flops=sum(known) if len(known) == len(flops) else None,
        known_flops=sum(known),
        seconds=seconds,
        timed_by=timed_by,
        disk_bytes=disk_bytes,
        optimizer_bytes=optimizer_bytes,
        noise=_noise(plan, runs),
        seeds=len(plan.sweep.seeds or (0,)),
    )


def _search_cost(plan: SweepPlan, search: Search, runs: Sequence[Summary]) -> SweepCost:
    """Return what a search costs at most, by random cells of its space: trials that are stopped early cost less."""
    examples = [cell for cell in plan.cells if not cell.is_infeasible]
    cost = _cells_cost(plan, examples, runs)
    count = search.trials + search.repeats

    def scaled(value: float | None) -> int | None:
        if value is None:
            return None
        return round(value * count / len(examples))

    return replace(
        cost,
        cells=count,
        epochs=scaled(cost.epochs) or 0,
        flops=scaled(cost.flops),
        known_flops=scaled(cost.known_flops) or 0,
        seconds=scaled(cost.seconds),
        disk_bytes=scaled(cost.disk_bytes),
        optimizer_bytes=scaled(cost.optimizer_bytes),
        seeds=max(1, search.confirm),
    )


def _cost(config: RunConfig) -> Plan | None:
    info = published_info(config.data.dataset, config.data.resize)
    if info.image_size is None or info.num_classes is None:
        return None
    return plan_costs(config, info.image_size, info.num_classes)


@dataclass(frozen=True)
class _Speed:
    """Seconds a FLOP of a past run."""

    layer: str
    dataset: str
    processes: int
    epoch_flops: int
    seconds_per_flop: float


def _seconds(cells: Sequence[Cell], runs: Iterable[Summary]) -> tuple[float | None, str]:
    """Return the time of cells by runs of the same layer and data or, without any, by FLOPs; and what it is from."""
    speeds = _speeds(runs)
    if not speeds or not cells:
        return None, ""
    total, is_same = 0.0, True
    used: set[_Speed] = set()
    for cell in cells:
        flops = cell.training_flops
        if flops is None:
            return None, ""
        kind = cell.config.layer.type, cell.config.data.dataset
        processes, epoch_flops = cell.config.runtime.processes, flops / cell.config.training.num_epochs
        comparable = [s for s in speeds if s.processes == processes and s.epoch_flops * SCALE >= epoch_flops]
        same = [speed for speed in comparable if (speed.layer, speed.dataset) == kind]
        if not comparable:
            return None, ""
        is_same = is_same and bool(same)
        used |= set(same or comparable)
        total += flops * median(speed.seconds_per_flop for speed in same or comparable)
    words = "of the same layer and data" if is_same else "of other layers or data, by their FLOPs"
    return total, f"{plural(len(used), 'past run')} {words}"


def _speeds(runs: Iterable[Summary]) -> list[_Speed]:
    """Return the speeds of the newest runs that were trained on this machine and on a device as it is used now."""
    speeds: list[_Speed] = []
    device = "cuda" if hardware.visible_gpus() else "cpu"
    trained = (run for run in runs if run.status == "done" and run.source is None)
    for run in islice(trained, MAX_READ):
        times = [run.metrics[name].last for name in ("train_s", "eval_s") if name in run.metrics]
        seconds = sum(time for time in times if time is not None)
        if seconds <= 0:
            continue
        try:
            config = RunConfig.model_validate(run.config)
            started = run.run.history(steps=False).started
        except (ValidationError, UserError):
            continue
        flops = epoch_flops(config)
        if started is None or started.host != hardware.host_name() or not started.device.startswith(device):
            continue
        if flops:
            kind = config.layer.type, config.data.dataset, config.runtime.processes
            speeds.append(_Speed(*kind, flops, seconds / flops))
        if len(speeds) == MAX_TIMED:
            break
    return speeds


def _noise(plan: SweepPlan, runs: Sequence[Summary]) -> NoiseFloor | None:
    """Return how far repeats on the data of the first cell differ by chance, by past runs or as published."""
    if not plan.cells:
        return None
    config = plan.cells[0].config
    dataset, epochs = config.data.dataset, config.training.num_epochs
    similar = [
        run
        for run in runs
        if run.status == "done" and run.config.value("data.dataset") == dataset and run.epoch >= epochs
    ]
    return noise_floor(runs, similar, RUN_FIELDS["best"]) or published_noise_floor(dataset)
