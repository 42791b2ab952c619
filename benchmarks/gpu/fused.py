"""Each Triton kernel beside plain torch: the same results, and milliseconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import PRODUCTS, GpuBench, set_products
from benchmarks.table import Row
from convnn.layers.ops import aggregate, nearest
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
AGGREGATES = (((16, 16), 64, 128), ((8, 8), 256, 256), ((4, 4), 512, 512), ((32, 32), 3, 64))  # sides, channels
SMALL_SEARCHES = (((4, 4), 3, 4),)
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
    yield from _searches(bench)


def _aggregates(bench: GpuBench) -> Iterator[Row | str]:
    batch = bench.size(BATCH, 2)
    for (sides, channels, outputs), kind in itertools.product(
        AGGREGATES if not bench.small else (((4, 4), 3, 5),), PRODUCTS
    ):
        if bench.small and kind != "fp32":
            continue
        set_products(kind)
        torch.manual_seed(0)
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        length, padded = sides[0] * sides[1], (sides[0] + 2) * (sides[1] + 2)
        x = torch.randn(batch, length, channels, device=bench.device, dtype=dtype)
        index = torch.randint(padded, (batch, length, 9), device=bench.device).to(torch.int16)
        weight = torch.randn(outputs, channels, 9, device=bench.device, dtype=dtype)
        bias = torch.randn(outputs, device=bench.device, dtype=dtype)
        grad = torch.randn(batch, length, outputs, device=bench.device, dtype=dtype)
        name = f"{sides[0]}x{sides[1]}, {channels} to {outputs} channels, 9 slots, {kind}"
        arguments = (x, index, weight, bias, sides, 1, False)
        yield {"convolution": f"forward, {name}"} | _both(
            bench, "aggregate", lambda arguments=arguments: aggregate.aggregate_tiles.function(*arguments)
        )
        back = (grad, x, index, weight, sides, 1, False, True)
        yield {"convolution": f"backward, {name}"} | _both(
            bench, "aggregate", lambda back=back: aggregate.aggregate_backward.function(*back)
        )
        yield {"convolution": f"by weight, {name}"} | _both(
            bench, "aggregate", lambda back=back: aggregate.aggregate_backward.function(*back[:-1], False)
        )
    set_products("fp32")


def _searches(bench: GpuBench) -> Iterator[Row | str]:
    batch = bench.size(BATCH, 2)
    for sides, channels, k in SMALL_SEARCHES if bench.small else SEARCHES:
        torch.manual_seed(0)
        x = torch.randn(batch, sides[0] * sides[1], channels, device=bench.device)
        for metric in ("cosine", "euclidean"):
            arguments = (x, None, sides, 1, k, metric, None)
            row: Row = {"search": f"{sides[0]}x{sides[1]}, {channels} channels, k {k}, {metric}"}
            yield row | _both(bench, "search", lambda arguments=arguments: nearest.nearest_positions(*arguments))
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
        work = lambda tiles=tiles: search.launch_search(x, x, None, position, order, order, k, tiles)  # noqa: E731
        index = bench.attempt(work)
        if isinstance(index, str):
            yield row | {"ms": index, "equal": "-"}
            continue
        actual = scores[:2].gather(2, index[:2, :, 1:].long())
        row["ms"] = bench.milliseconds(work, seconds=0.2)
        yield row | {"equal": f"{float((actual - expected).abs().max()):.1e}"}
