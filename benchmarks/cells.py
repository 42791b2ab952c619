"""Single layers (ConvNN2d, 64 to 64 channels) over map sizes, K, batch sizes and metrics: ours is nowhere slower.

A cell is slower if ours takes both 5 % and 50 us more than plain. If ours is clearly faster three times in a row, the
cell is not measured further; but cells of a few milliseconds are measured again, call by call in one process, and that
result counts. A cell in which plain would need more than half of the memory is not run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product

from benchmarks.layers import work
from benchmarks.measure import BenchOptions, Contender, measure_calls, measure_interleaved
from benchmarks.table import Row

CHANNELS = 64
SIDES = (2, 4, 8, 16, 32, 64)
KS = (1, 2, 4, 9, 16)
METRICS = ("cosine", "euclidean")
BATCHES = (1, 64, 256)
TOLERANCE, TOLERANCE_SECONDS = 1.05, 50e-6  # a cell that exceeds both is slower
SHORT_SECONDS = 1e-2  # calls up to this long are measured call by call
CLEARLY_FASTER = 1.5  # plain / ours, three times in a row


def plain_bytes(side: int, K: int, batch: int) -> int:
    """Memory of the plain layer: three score matrices, and the K copies before, after and in the gradient."""
    positions = (side + 2) ** 2
    return 4 * batch * (3 * positions**2 + 3 * CHANNELS * positions * K)


def is_slower(plain: float, ours: float) -> bool:
    """Whether ours takes too many seconds."""
    return ours > plain * TOLERANCE and ours > plain + TOLERANCE_SECONDS


def rows(bench: BenchOptions) -> Iterator[Row | str]:
    """A row for each map size and batch, a cell for each metric and K; then the cells that are slower or not run."""
    memory_limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    sides, ks, batches = (SIDES[:4], KS[::3], BATCHES[:2]) if bench.quick else (SIDES, KS, BATCHES)
    slower, not_run = [], []
    for side, batch in product(sides, batches):
        row: Row = {"ConvNN2d 64-64, plain / ours": f"{side}x{side}, batch {batch}"}
        for metric, K in product(METRICS, ks):
            column = f"{metric} K={K}"
            cell = f"{side}x{side} batch {batch} {column}"
            if plain_bytes(side, K, batch) > memory_limit:
                row[column] = "not run"
                not_run.append(cell)
                continue
            plain, ours = _measure_cell(side, K, batch, metric, bench)
            row[column] = plain / ours
            if is_slower(plain, ours):
                slower.append(f"{cell}: {1e6 * plain:.0f} us plain, {1e6 * ours:.0f} us ours")
        yield row
    yield "slower by more than 5 % and 50 us: " + ("; ".join(slower) or "no cell")
    if not_run:
        yield f"not run, as plain would need more than {memory_limit / 2**30:.0f} GiB: {'; '.join(not_run)}"


def _measure_cell(side: int, K: int, batch: int, metric: str, bench: BenchOptions) -> tuple[float, float]:
    """Seconds of plain and of ours."""
    arguments = ("ConvNN", {"K": K, "magnitude_type": metric}, (CHANNELS, CHANNELS, side), batch)
    contenders = [Contender(work, (False, *arguments), keeps_memory=False), Contender(work, (True, *arguments))]
    plain, ours = (result.seconds for result in measure_interleaved(contenders, bench, stop_ratio=CLEARLY_FASTER))
    if min(plain, ours) < SHORT_SECONDS:
        plain, ours = measure_calls(contenders, bench)
    return plain, ours
