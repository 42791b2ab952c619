"""No map too small for ours: ConvNN2d 64-64 beside the plain way over sides, K, batches and both metrics.

A cell is slower when ours takes 5 % and 50 us more than plain. One in which ours is clearly faster three times in a row
is left at that, unless a side takes only milliseconds: such a cell is measured anew, call by call in one process, and
that counts. One in which plain would need more than half of the memory is not run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product

from benchmarks.layers import work
from benchmarks.measure import How, Side, call_by_call, take_turns
from benchmarks.table import Row

CHANNELS = 64
SIDES = (2, 4, 8, 16, 32, 64)
KS = (1, 2, 4, 9, 16)
METRICS = ("cosine", "euclidean")
BATCHES = (1, 64, 256)
SHARE, SECONDS = 1.05, 50e-6  # a cell that takes more than both is slower
BRIEF = 1e-2  # seconds that a call takes at most to be measured call by call
CLEAR = 1.5  # times faster, three times in a row


def plain_bytes(side: int, K: int, batch: int) -> int:
    """What the plain way takes: three matrices of scores, and the copies before, after and in the gradient."""
    positions = (side + 2) ** 2
    return 4 * batch * (3 * positions**2 + 3 * CHANNELS * positions * K)


def slower(plain: float, ours: float) -> bool:
    """Whether ours takes too many seconds."""
    return ours > plain * SHARE and ours > plain + SECONDS


def rows(how: How) -> Iterator[Row | str]:
    """A row for each side and batch, its cells being K and metric; then those that were slower or not run."""
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    grid = (SIDES[:4], KS[::3], BATCHES[:2]) if how.quick else (SIDES, KS, BATCHES)
    misses, left = [], []
    for side, batch in product(grid[0], grid[2]):
        row: Row = {"ConvNN2d 64-64, plain / ours": f"{side}x{side}, batch {batch}"}
        for metric, K in product(METRICS, grid[1]):
            name = f"{metric} K={K}"
            options = {"K": K, "magnitude_type": metric}
            if plain_bytes(side, K, batch) > half:
                row[name] = "not run"
                left.append(f"{side}x{side} batch {batch} {name}")
                continue
            rest = ("ConvNN", options, (CHANNELS, CHANNELS, side), batch)
            both = [Side(work, (False, *rest), False), Side(work, (True, *rest))]
            plain, ours = take_turns(both, how, clear=CLEAR)
            seconds = [plain.seconds, ours.seconds]
            if min(seconds) < BRIEF:
                seconds = call_by_call(both, how)
            row[name] = seconds[0] / seconds[1]
            if slower(*seconds):
                told = f"{1e6 * seconds[0]:.0f} us plain, {1e6 * seconds[1]:.0f} us ours"
                misses.append(f"{side}x{side} batch {batch} {name}: {told}")
        yield row
    yield "slower by more than 5 % and 50 us: " + ("; ".join(misses) or "no cell")
    if left:
        yield f"not run, as plain would need more than {half / 2**30:.0f} GiB: {'; '.join(left)}"
