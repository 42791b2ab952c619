"""Rules across options, checked without torch in milliseconds: every problem at once, each with a fix."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from convnn.config.active import inactive_options
from convnn.config.options import BY_KEY, Value, value_at
from convnn.config.schema import RunConfig
from convnn.costs import slot_cost
from convnn.data.catalog import DatasetInfo, split_sizes
from convnn.data.splits import drop_last_problem, val_share_problem
from convnn.errors import Problem
from convnn.hardware import fp16_on_cpu, too_many_processes
from convnn.layer_table import Side, layer_kind, samples_all
from convnn.models import architectures
from convnn.models.architectures import Slot
from convnn.text import plural

GRAPH_MODES = ("reduce-overhead", "max-autotune")  # of torch.compile, which capture CUDA graphs
VARIABLE = re.compile(r"\$\w+|\$\{\w+\}")


def problems(config: RunConfig, image_size: Side | None) -> list[Problem]:
    """Return the contradictions in a configuration whose single values are all allowed.

    image_size is (H, W) in pixels; None (a folder that is not here) skips the rules about feature maps.
    """
    broken = [*_samples(config), *_shuffle(config), *_runtime(config), *_batches(config), *_paths(config)]
    if image_size is None:
        return broken
    min_side = architectures.architecture(config.model.name).min_side
    if min(image_size) < min_side:
        return [*broken, _too_small(config, image_size, min_side)]  # the maps of such a model do not exist
    return broken + _maps(config, image_size, refused={problem.key for problem in broken})


def data_problems(config: RunConfig, dataset: DatasetInfo) -> list[Problem]:
    """Return what contradicts the splits of the data set, as far as they are known."""
    sizes = split_sizes(dataset, config.data.limit, config.data.val_share)
    problems = []
    if "train" in sizes:
        training = config.training
        problems.append(drop_last_problem(sizes["train"], training.batch_size, drop_last=training.drop_last))
        problems.append(early_stop_problem(config, validation=dataset.val_images is not None))
    if dataset.val_images is not None:
        problems.append(val_share_problem(config.data.val_share))
    return [problem for problem in problems if problem is not None]


def early_stop_problem(config: RunConfig, *, validation: bool) -> Problem | None:
    """Return the problem that no images are held out to stop early on; `validation`: the data set has such images."""
    patience = config.training.early_stop
    if patience is None or validation or config.data.val_share > 0:
        return None
    return Problem(
        f"training.early_stop is {patience}: it monitors validation images, and data.val_share 0 holds out none "
        "(stopping on test images would choose the epoch by them)",
        key="training.early_stop",
        value=patience,
        fix="use --val_share 0.1, or --early_stop none",
        change={"data.val_share": 0.1},
    )


def notes(config: RunConfig) -> list[str]:
    """Return what is allowed but may surprise."""
    surprises = []
    epochs, warmup, step = config.training.num_epochs, config.scheduler.warmup_epochs, config.scheduler.step
    if warmup >= epochs:
        surprises.append(
            f"scheduler.warmup_epochs is {warmup}: the learning rate rises in all of {plural(epochs, 'epoch')}"
        )
    elif config.scheduler.name == "step" and warmup + step >= epochs:
        after = ""
        if warmup:
            after = f" after the warmup of {plural(warmup, 'epoch')}"
        surprises.append(
            f"scheduler.step is {step}{after}: the learning rate never decays in {plural(epochs, 'epoch')}"
        )
    patience = config.training.early_stop
    if patience is not None and patience + 1 >= epochs:
        surprises.append(f"training.early_stop is {patience}: it cannot end a run of {plural(epochs, 'epoch')} early")
    if config.runtime.compile and config.runtime.compile_mode == "reduce-overhead" and config.runtime.device == "cpu":
        surprises.append("compile_mode reduce-overhead uses CUDA graphs; on cpu it compiles as default does")
    processes, threads = config.runtime.processes, config.runtime.threads or os.cpu_count() or 1
    if processes > threads and config.runtime.device == "cpu":
        surprises.append(f"processes {processes} share {plural(threads, 'CPU thread')}: they wait for each other")
    if config.runtime.matmul == "tf32" and config.runtime.device in ("cpu", "mps"):
        surprises.append(f"matmul tf32 is for cuda: {config.runtime.device} computes in float32")
    if layer_kind(config.layer.type).branches and config.branching.ratio == 0:
        surprises.append("branch_ratio 0 keeps the 1x1 mixing convolution, so the model is not the plain Conv2d model")
    layer = config.layer
    if layer.type == "Conv2d_New" and layer.aggregation_type == "Col" and layer.shuffle_pattern == "NA":
        surprises.append("layer Conv2d_New with aggregation_type Col and shuffle_pattern NA is the plain Conv2d layer")
    return surprises


def _paths(config: RunConfig) -> Iterator[Problem]:
    """Refuse an environment variable in a path, which a shell replaces: a folder of its name would be made."""
    for key in ("data.path", "output.dir"):
        option, path = BY_KEY[key], value_at(config, key)
        variable = VARIABLE.search(path) if isinstance(path, str) else None
        if variable is None or Path(str(path)).exists() or key in inactive_options(config):
            continue
        message = f"{key} is {path!r}: {variable[0]} is not expanded here"
        expanded = os.path.expandvars(str(path))
        if VARIABLE.search(expanded):  # it is not set in this environment
            yield Problem(message, key=key, value=path, fix=f"use {option.flag} with the value of {variable[0]}")
        else:
            yield Problem(message, key=key, value=path, fix=f"use {option.flag} {expanded}", change={key: expanded})


def _samples(config: RunConfig) -> Iterator[Problem]:
    kind, samples = config.sampling.type, config.sampling.num_samples
    inactive = inactive_options(config)
    if "sampling.type" in inactive:
        return
    if kind == "all" and samples != -1:
        reason = ", but sampling_type all takes every position: must be -1"
        fix = "use --num_samples -1, or --sampling_type random or spatial"
        yield _problem(config, "sampling.num_samples", reason, fix, -1)
    if kind != "all" and samples < 1:
        meaning, usual = {"random": ("the number of candidates", 64), "spatial": ("the side of the grid", 8)}[kind]
        reason = f": must be at least 1 with sampling_type {kind} ({meaning})"
        yield _problem(config, "sampling.num_samples", reason, f"use --num_samples {usual}", usual)


def _shuffle(config: RunConfig) -> Iterator[Problem]:
    pattern, scale = config.layer.shuffle_pattern, config.layer.shuffle_scale
    if "layer.shuffle_pattern" in inactive_options(config):
        return
    if pattern == "BA" and scale < 1:
        reason = ": must be at least 1 with shuffle_pattern BA"
        yield _problem(config, "layer.shuffle_scale", reason, "use --shuffle_scale 2, or --shuffle_pattern NA", 2)
    if pattern == "NA" and scale != 0:
        reason = ", but shuffle_pattern NA shuffles nothing: must be 0"
        yield _problem(config, "layer.shuffle_scale", reason, "use --shuffle_scale 0, or --shuffle_pattern BA", 0)


def _runtime(config: RunConfig) -> Iterator[Problem]:
    runtime = config.runtime
    if runtime.amp and runtime.amp_dtype == "fp16" and runtime.device == "cpu":
        yield fp16_on_cpu()
    if problem := too_many_processes(runtime.processes, runtime.device, None):
        yield problem
    captures = runtime.compile and runtime.compile_mode in GRAPH_MODES
    if runtime.processes > 1 and captures and runtime.device != "cpu":
        yield Problem(
            f"runtime.compile_mode {runtime.compile_mode} captures CUDA graphs, which several processes cannot share",
            key="runtime.compile_mode",
            value=runtime.compile_mode,
            fix="use --compile_mode default, or --processes 1",
            change={"runtime.compile_mode": "default"},
        )


def _batches(config: RunConfig) -> Iterator[Problem]:
    batch, micro = config.training.batch_size, config.training.accumulate
    if config.runtime.processes > batch:
        reason = f": a batch of {plural(batch, 'image')} is too small"
        yield _problem(config, "runtime.processes", reason, f"use --processes {batch} or less", batch)
    if micro > batch:
        reason = f": a batch of {plural(batch, 'image')} has no {micro} micro-batches"
        yield _problem(config, "training.accumulate", reason, f"use --accumulate {batch} or less", batch)


def _too_small(config: RunConfig, image_size: Side, min_side: int) -> Problem:
    smaller = [name for name, model in architectures.ARCHITECTURES.items() if model.min_side <= min(image_size)]
    return Problem(
        f"data.resize is {config.data.resize or 'none'}: {config.model.name} needs images of at least "
        f"{min_side}x{min_side}, these are {_size(image_size)}",
        key="data.resize",
        value=config.data.resize,
        fix=" or ".join([f"use --resize {min_side}", *(f"--model {name}" for name in smaller[:1])]),
        change={"data.resize": min_side},
    )


def _maps(config: RunConfig, image_size: Side, refused: set[str | None]) -> list[Problem]:
    """Return what breaks a rule about feature maps: the first such map is named, and the fix suits every map."""
    if {"sampling.num_samples", "layer.shuffle_scale"} & refused:
        return []  # the candidates of such a configuration are undefined
    inactive = inactive_options(config)
    slots = architectures.slots(config.model.name, config.model.width, image_size)
    if "layer.shuffle_scale" not in inactive and (problem := _shuffle_scale(config, slots)):
        return [problem]
    if "layer.K" in inactive:
        return []
    if "sampling.sample_padding" not in inactive and (problem := _sample_padding(config, slots)):
        return [problem]
    problem = _candidates(config, slots)
    if not problem:
        return []
    return [problem]


def _shuffle_scale(config: RunConfig, slots: Sequence[Slot]) -> Problem | None:
    scale = config.layer.shuffle_scale
    undivided = next((slot for slot in slots if slot.side[0] % scale or slot.side[1] % scale), None)
    if undivided is None:
        return None
    common = math.gcd(*(pixels for slot in slots for pixels in slot.side))
    divisors = [number for number in range(1, common + 1) if common % number == 0]
    reason = f": must divide every map, but {undivided.name} is {_size(undivided.side)}"
    fix = f"use --shuffle_scale {' or '.join(map(str, divisors))}, or --shuffle_pattern NA"
    return _problem(config, "layer.shuffle_scale", reason, fix, max(divisors))


def _sample_padding(config: RunConfig, slots: Sequence[Slot]) -> Problem | None:
    margin, sampling = config.sampling.sample_padding, (config.sampling.type, config.sampling.num_samples)
    sides = {slot: slot_cost.inner_side(config, slot.side) for slot in slots}
    gridded = {slot: side for slot, side in sides.items() if not samples_all(side, config.layer.padding, *sampling)}
    emptied = next((slot for slot, side in gridded.items() if 2 * margin >= min(side)), None)
    if emptied is None:
        return None
    largest = (min(min(side) for side in gridded.values()) - 1) // 2
    reason = f": leaves no position of {emptied.name}, which is {_size(sides[emptied])}"
    return _problem(config, "sampling.sample_padding", reason, f"use --sample_padding {largest}", largest)


def _candidates(config: RunConfig, slots: Sequence[Slot]) -> Problem | None:
    K, counts = config.layer.K, {slot: slot_cost.candidates(config, slot) for slot in slots}
    searched = {slot: count for slot, count in counts.items() if count is not None}
    smallest = min(searched, key=searched.__getitem__, default=None)  # what fits the fewest candidates fits all
    if smallest is None or searched[smallest] >= K:
        return None
    count = searched[smallest]
    reason = (
        f": {K} neighbors need at least {K} candidates, but {smallest.name} has {count} "
        f"(its map is {_size(slot_cost.inner_side(config, smallest.side))}, padding {config.layer.padding}, "
        f"sampling {config.sampling.type})"
    )
    return _problem(config, "layer.K", reason, f"use --K {count} or less, or more candidates", count)


def _problem(config: RunConfig, key: str, reason: str, fix: str, allowed: Value) -> Problem:
    """Return the problem of the value of an option: "KEY is VALUE", then the reason; the fix sets an allowed one."""
    value = value_at(config, key)
    return Problem(f"{key} is {value}{reason}", key=key, value=value, fix=fix, change={key: allowed})


def _size(side: Side) -> str:
    return f"{side[0]}x{side[1]}"
