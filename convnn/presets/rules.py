"""Rules across fields, checked without torch in milliseconds: every problem at once, each with a way out."""

from __future__ import annotations

import math
from collections.abc import Iterator

from convnn.config.active import inactive_options
from convnn.config.schema import RunConfig
from convnn.costs import flops, plan
from convnn.errors import Problem
from convnn.hardware import fp16_on_cpu
from convnn.models import architectures

Side = tuple[int, int]


def problems(config: RunConfig, image_size: Side | None) -> list[Problem]:
    """What contradicts itself in a configuration whose single values are all allowed.

    image_size is (H, W) in pixels; None (a folder that is not here) leaves the rules about maps for later.
    """
    found = [*_samples(config), *_shuffle(config), *_runtime(config), *_batches(config)]
    if image_size is None:
        return found
    if config.model.name.startswith("vgg") and min(image_size) < 32:
        found.append(_too_small(config, image_size))
        return found  # the maps of such a model do not exist
    return found + _maps(config, image_size, ignore={problem.key for problem in found})


def notes(config: RunConfig) -> list[str]:
    """What is allowed but may surprise."""
    found = []
    if config.scheduler.name == "step" and config.scheduler.step >= config.training.num_epochs:
        found.append(f"scheduler.step {config.scheduler.step} is not reached in {config.training.num_epochs} epochs")
    if config.runtime.compile and config.runtime.compile_mode == "reduce-overhead" and config.runtime.device == "cpu":
        found.append("compile_mode reduce-overhead uses CUDA graphs; on cpu it compiles as default does")
    if "Branching" in config.layer.type and config.branching.ratio == 0:
        found.append(
            "branch_ratio 0 keeps the 1x1 mixing convolution: its model is not quite the Conv2d model "
            "(130,015,690 against 128,812,810 parameters in vgg11)"
        )
    return found


def _samples(config: RunConfig) -> Iterator[Problem]:
    kind, samples = config.sampling.type, config.sampling.num_samples
    inactive = inactive_options(config)
    if "sampling.type" in inactive:
        return
    if kind == "all" and samples != -1:
        yield Problem(
            f"sampling.num_samples is {samples}, but sampling_type all takes every position: must be -1",
            key="sampling.num_samples",
            value=samples,
            fix="use --num_samples -1, or --sampling_type random or spatial",
            change={"sampling.num_samples": -1},
        )
    if kind != "all" and samples < 1:
        unit = "how many candidates" if kind == "random" else "the side of the grid"
        wanted = 64 if kind == "random" else 8
        yield Problem(
            f"sampling.num_samples is {samples}: must be at least 1 with sampling_type {kind} ({unit})",
            key="sampling.num_samples",
            value=samples,
            fix=f"use --num_samples {wanted}",
            change={"sampling.num_samples": wanted},
        )


def _shuffle(config: RunConfig) -> Iterator[Problem]:
    pattern, scale = config.layer.shuffle_pattern, config.layer.shuffle_scale
    if "layer.shuffle_pattern" in inactive_options(config):
        return
    if pattern == "BA" and scale < 1:
        yield Problem(
            f"layer.shuffle_scale is {scale}: must be at least 1 with shuffle_pattern BA",
            key="layer.shuffle_scale",
            value=scale,
            fix="use --shuffle_scale 2, or --shuffle_pattern NA",
            change={"layer.shuffle_scale": 2},
        )
    if pattern == "NA" and scale != 0:
        yield Problem(
            f"layer.shuffle_scale is {scale}, but shuffle_pattern NA shuffles nothing: must be 0",
            key="layer.shuffle_scale",
            value=scale,
            fix="use --shuffle_scale 0, or --shuffle_pattern BA",
            change={"layer.shuffle_scale": 0},
        )


def _runtime(config: RunConfig) -> Iterator[Problem]:
    runtime = config.runtime
    if runtime.amp and runtime.amp_dtype == "fp16" and runtime.device == "cpu":
        yield fp16_on_cpu()


def _batches(config: RunConfig) -> Iterator[Problem]:
    batch, micro = config.training.batch_size, config.training.accumulate
    if micro > batch:
        yield Problem(
            f"training.accumulate is {micro}: a batch of {batch} images cannot be computed in {micro} parts",
            key="training.accumulate",
            value=micro,
            fix=f"use --accumulate {batch} or less",
            change={"training.accumulate": batch},
        )


def _too_small(config: RunConfig, image_size: Side) -> Problem:
    height, width = image_size
    return Problem(
        f"data.resize is {config.data.resize or 'none'}: {config.model.name} needs images of at least 32x32, "
        f"these are {height}x{width}",
        key="data.resize",
        value=config.data.resize,
        fix="use --resize 32, or --model resnet18",
        change={"data.resize": 32},
    )


def _maps(config: RunConfig, image_size: Side, ignore: set[str | None]) -> list[Problem]:
    """The rules that every layer's map must meet: the first map that fails is named, the fix suits them all."""
    if {"sampling.num_samples", "layer.shuffle_scale"} & ignore:
        return []  # the pools of such a configuration do not exist
    inactive = inactive_options(config)
    slots = architectures.slots(config.model.name, config.model.width, image_size)
    if "layer.shuffle_scale" not in inactive and (problem := _divides(config, slots)):
        return [problem]
    if "layer.K" in inactive:
        return []
    return [problem for problem in (_margin(config, slots, inactive), _pool(config, slots)) if problem][:1]


def _divides(config: RunConfig, slots: tuple[architectures.Slot, ...]) -> Problem | None:
    scale = config.layer.shuffle_scale
    shared = math.gcd(*(side for slot in slots for side in slot.side))
    bad = next((slot for slot in slots if slot.side[0] % scale or slot.side[1] % scale), None)
    if bad is None:
        return None
    fitting = [str(n) for n in range(1, shared + 1) if shared % n == 0]
    return Problem(
        f"layer.shuffle_scale is {scale}: must divide every map, but {bad.name} is {_shape(bad.side)}",
        key="layer.shuffle_scale",
        value=scale,
        fix=f"use --shuffle_scale {' or '.join(fitting)}, or --shuffle_pattern NA",
        change={"layer.shuffle_scale": max(int(n) for n in fitting)},
    )


def _margin(config: RunConfig, slots: tuple[architectures.Slot, ...], inactive: dict[str, str]) -> Problem | None:
    if "sampling.sample_padding" in inactive:
        return None
    margin, samples = config.sampling.sample_padding, config.sampling.num_samples
    # a grid that is no coarser than its map is all of it, margin and pad included
    gridded = [slot for slot in slots if samples < max(_inner(config, slot.side))]
    bad = next((slot for slot in gridded if 2 * margin >= min(_inner(config, slot.side))), None)
    if bad is None:
        return None
    most = (min(min(_inner(config, slot.side)) for slot in gridded) - 1) // 2
    return Problem(
        f"sampling.sample_padding is {margin}: leaves no position of {bad.name}, which is "
        f"{_shape(_inner(config, bad.side))}",
        key="sampling.sample_padding",
        value=margin,
        fix=f"use --sample_padding {most}",
        change={"sampling.sample_padding": most},
    )


def _pool(config: RunConfig, slots: tuple[architectures.Slot, ...]) -> Problem | None:
    K = config.layer.K
    looking = [slot for slot in slots if flops.neighbour_channels(config, slot.out_channels)]
    pools = {slot: plan.candidates(config, slot.side) for slot in looking}
    bad = min(looking, key=lambda slot: pools[slot], default=None)  # what fits the smallest pool fits all
    if bad is None or pools[bad] >= K:
        return None
    least = pools[bad]
    return Problem(
        f"layer.K is {K}: {K} neighbours need at least {K} candidates, but {bad.name} has {least} "
        f"(its map is {_shape(_inner(config, bad.side))}, padding {config.layer.padding}, "
        f"sampling {config.sampling.type})",
        key="layer.K",
        value=K,
        fix=f"use --K {least} or less, or a larger pool of candidates",
        change={"layer.K": least},
    )


def _inner(config: RunConfig, side: Side) -> Side:
    """The map that neighbours are looked for in: after the unshuffle, before padding."""
    shape = flops.shuffled(config, 1, 1, side)
    return shape.height, shape.width


def _shape(side: Side) -> str:
    return f"{side[0]}x{side[1]}"
