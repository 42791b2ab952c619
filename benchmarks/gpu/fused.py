"""Each Triton kernel beside plain torch: the same results, and milliseconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import PRODUCTS, GpuBench, set_products
from benchmarks.table import Row
from convnn.layers.ops import aggregate, attend, nearest
from convnn.layers.ops.top_k import best_columns
from convnn.layers.ops.triton import launch, search

BATCH = 256
SEARCHES = (  # sides of the map, channels, neighbors
    ((32, 32), 3, 8),
    ((32, 32), 64, 8),
    ((32, 32), 64, 15),
    ((16, 16), 64, 9),
    ((8, 8), 256, 9),
    ((4, 4), 512, 9),
)
LAYERS = (((16, 16), 64, 128), ((8, 8), 256, 256), ((4, 4), 512, 512), ((32, 32), 3, 64))  # sides, channels, outputs
SLOTS = 9
SMALL_SEARCHES, SMALL_LAYERS = (((4, 4), 3, 4),), (((4, 4), 3, 5),)
OTHER_TILES = (
    search.Tiles(32, 32, 16, 4),
    search.Tiles(32, 64, 16, 4),
    search.Tiles(32, 128, 16, 4),
    search.Tiles(16, 64, 16, 1),
    search.Tiles(16, 128, 16, 4),
    search.Tiles(64, 32, 32, 4),
    search.Tiles(64, 64, 32, 4),
    search.Tiles(64, 128, 32, 8),
    search.Tiles(128, 64, 32, 8),
)


def rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each kernel and size of map."""
    yield from _aggregates(bench)
    yield from _attends(bench)
    yield from _searches(bench)


def _cases(bench: GpuBench, kinds: Sequence[str]) -> Iterator[tuple[tuple[int, int], int, int, str]]:
    """Sides, channels, outputs, and how products are computed, which is set."""
    sizes = SMALL_LAYERS if bench.small else LAYERS
    for (sides, channels, outputs), kind in itertools.product(sizes, kinds[: bench.size(len(kinds), 1)]):
        set_products(kind)
        torch.manual_seed(0)
        yield sides, channels, outputs, kind
    set_products("fp32")


def _random_index(bench: GpuBench, batch: int, sides: tuple[int, int]) -> Tensor:
    """Positions of maps padded by 1. -> (B, N, SLOTS)"""
    padded = (sides[0] + 2) * (sides[1] + 2)
    return torch.randint(padded, (batch, sides[0] * sides[1], SLOTS), device=bench.device).to(torch.int16)


def _aggregates(bench: GpuBench) -> Iterator[Row | str]:
    batch = bench.size(BATCH, 2)
    for sides, channels, outputs, kind in _cases(bench, PRODUCTS):
        random = partial(torch.randn, device=bench.device, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
        length = sides[0] * sides[1]
        x, index = random(batch, length, channels), _random_index(bench, batch, sides)
        weight, bias, grad = random(outputs, channels, SLOTS), random(outputs), random(batch, length, outputs)
        name = f"{sides[0]}x{sides[1]}, {channels} to {outputs} channels, {SLOTS} slots, {kind}"
        forward = partial(aggregate.aggregate_tiles.function, x, index, weight, bias, sides, 1, False)
        backward = partial(aggregate.aggregate_backward.function, grad, x, index, weight, sides, 1, False)
        yield {"convolution": f"forward, {name}"} | _both(bench, "aggregate", forward)
        yield {"convolution": f"backward, {name}"} | _both(bench, "aggregate", partial(backward, True))
        yield {"convolution": f"by weight, {name}"} | _both(bench, "aggregate", partial(backward, False))


def _attends(bench: GpuBench) -> Iterator[Row | str]:
    """Attention as a layer has it under autocast: projections in the half type, and parameters in float32."""
    batch = bench.size(BATCH, 2)
    for sides, channels, _, kind in _cases(bench, ("fp32", "bf16")):  # there are no products of matrices
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        projections = torch.randn(batch, sides[0] * sides[1], 3 * channels, device=bench.device, dtype=dtype)
        weight = torch.randn(channels, 1, SLOTS, device=bench.device)
        bias = torch.randn(channels, device=bench.device)
        tensors = (projections, _random_index(bench, batch, sides), None, weight, bias)
        options = (sides, 1, "cosine")
        out, attention = attend.attend.function(*tensors, *options)
        name = f"{sides[0]}x{sides[1]}, {channels} channels, {SLOTS} slots, {kind}"
        forward = partial(attend.attend.function, *tensors, *options)
        backward = partial(attend.attend_backward.function, out, *tensors, attention, *options)
        yield {"attention": f"forward, {name}"} | _both(bench, "attend", forward)
        yield {"attention": f"backward, {name}"} | _both(bench, "attend", backward)


def _searches(bench: GpuBench) -> Iterator[Row | str]:
    batch = bench.size(BATCH, 2)
    for sides, channels, k in SMALL_SEARCHES if bench.small else SEARCHES:
        torch.manual_seed(0)
        x = torch.randn(batch, sides[0] * sides[1], channels, device=bench.device)
        for metric in ("cosine", "euclidean"):
            row: Row = {"search": f"{sides[0]}x{sides[1]}, {channels} channels, k {k}, {metric}"}
            search_work = partial(nearest.nearest_positions, x, None, sides, 1, k, metric, None)
            yield row | _both(bench, "search", search_work)
        yield from _search_tiles(bench, x, k)


def _both(bench: GpuBench, kernel: str, work: Callable[[], Any]) -> Row:
    """Milliseconds of an operator by plain torch and by its kernel."""
    device = torch.empty(0, device=bench.device).device  # with its index, as the tensors have it
    launch.disable(kernel, device)
    torch_ms = bench.attempt(lambda: bench.milliseconds(work, seconds=0.4))
    launch.enable(kernel, device)
    kernel_ms = bench.attempt(lambda: bench.milliseconds(work, seconds=0.4))
    is_used = launch.is_usable(kernel, torch.empty(0, device=device))
    return {"plain ms": torch_ms, "kernel ms": kernel_ms, "used": str(is_used)}


def _search_tiles(bench: GpuBench, x: Tensor, k: int) -> Iterator[Row]:
    """The kernel alone with other tiles; without pad, so that a query's column is its position."""
    x = torch.nn.functional.normalize(x, dim=2)
    position = torch.arange(x.shape[1], device=x.device)
    order = position.to(torch.int16)
    default = search.search_tiles(x.shape[1], x.shape[2])
    scores = x @ x.mT
    scores[:, position, position] = -torch.inf
    expected = scores[:2].topk(k - 1).values
    name = f"{x.shape[1]} x {x.shape[1]}, {x.shape[2]} channels, k {k}"
    plain: Row = {"search kernel": name, "tiles": "top-k of torch"}
    yield plain | {"ms": bench.milliseconds(lambda: scores.topk(k - 1), seconds=0.2), "equal": "-"}
    plain["tiles"] = "two sorts of torch"
    yield plain | {"ms": bench.milliseconds(lambda: best_columns(scores, k - 1), seconds=0.2), "equal": "-"}
    for tiles in (default, *OTHER_TILES[:: bench.size(1, len(OTHER_TILES))]):
        row: Row = {"search kernel": name, "tiles": " ".join(map(str, tiles))}
        work = partial(search.launch_search, x, x, None, position, order, order, k, tiles)
        index = bench.attempt(work)
        if isinstance(index, str):
            yield row | {"ms": index, "equal": "-"}
            continue
        actual = scores[:2].gather(2, index[:2, :, 1:].long())
        row["ms"] = bench.milliseconds(work, seconds=0.2)
        yield row | {"equal": f"{float((actual - expected).abs().max()):.1e}"}
