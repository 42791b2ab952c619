"""Runs the search kernel in Triton's interpreter, which needs TRITON_INTERPRET=1; prints each case that differs.

Scores of small integers are exact: the neighbors are those of a stable sort, for all tiles. Those of random numbers are
compared by the operators themselves, whose self-check warns.
"""

import itertools
import sys
import warnings

import torch

from convnn.layers.ops.nearest import nearest_keys, nearest_positions
from convnn.layers.ops.triton import launch
from convnn.layers.ops.triton.search import Tiles, agree, launch_search

TILES = (Tiles(16, 16, 16, 4), Tiles(32, 32, 16, 4), Tiles(16, 64, 32, 4))
SPECIAL = (torch.nan, torch.inf, -torch.inf, 1e38, -0.0)
CPU = torch.device("cpu")


def exact_cases(every):
    cases = itertools.product((5, 33), (12, 70), (3, 20), (2, 6, 9), (False, True), (False, True), TILES)
    for number, case in enumerate(itertools.islice(cases, 0, None, every)):
        length, count, channels, k, has_penalty, is_special, tiles = case
        generator = torch.Generator().manual_seed(number)
        queries = torch.randint(-2, 3, (2, length, channels), generator=generator).float()
        candidates = torch.randint(-2, 3, (2, count, channels), generator=generator).float()
        if is_special:
            for place, value in enumerate(SPECIAL):
                candidates[:, place, 0] = value
            queries[:, -1] = 0  # all scores are equal, or NaN
        penalty = candidates.square().sum(2) if has_penalty else None
        own_column = torch.randperm(count + length, generator=generator)[:length]  # some are no candidates
        position = torch.randperm(500, generator=generator)[:count].to(torch.int16)
        own_position = torch.arange(500, 500 + length, dtype=torch.int16)
        index = launch_search(queries, candidates, penalty, own_column, own_position, position, k, tiles)
        scores = queries.double() @ candidates.mT.double()
        if penalty is not None:
            scores -= 0.5 * penalty[:, None].double()
        scores = scores.float()
        # NaN is above infinity, and a query's own candidate below everything
        rank = torch.where(scores.isnan(), torch.inf, scores.double().clamp(-1e300, 1e300))
        is_own = torch.arange(count) == own_column[:, None]
        rank = rank.masked_fill(is_own, -torch.inf)
        expected = position[rank.sort(dim=2, descending=True, stable=True).indices[..., : k - 1]]
        if not (torch.equal(index[..., 1:], expected) and (index[..., 0] == own_position).all()):
            yield str(case)


def operator_cases(every):
    warnings.simplefilter("error", RuntimeWarning)
    cases = itertools.product(
        ("cosine", "euclidean"), ([5, 4], [13]), (False, True), (3, 20), (2, 5), (0, 1), ("f", "k", "c")
    )
    for number, case in enumerate(itertools.islice(cases, 0, None, every)):
        metric, sides, is_pooled, channels, k, padding, kind = case
        generator = torch.Generator().manual_seed(number)
        total = torch.Size([side + 2 * padding for side in sides]).numel()
        x = torch.randn(2, torch.Size(sides).numel(), channels, generator=generator)
        keys = torch.randn(2, total, channels, generator=generator)
        pool = torch.randperm(total, generator=generator)[: total // 2].sort().values if is_pooled else None
        try:
            if kind == "k":
                nearest_keys(x, keys, pool, sides, padding, k, metric)
            else:
                nearest_positions(x, pool, sides, padding, k, metric, 0.5 if kind == "c" else None)
        except RuntimeWarning as warning:
            yield f"{case}: {warning}"
            launch.enable("search", CPU)


def wrong_check_case():
    """A kernel that disagrees is switched off, with a warning, and plain torch computes on."""
    torch.manual_seed(0)
    x = torch.randn(2, 20, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_correct = launch.is_correct("search", x, "a case", lambda: False)
    if is_correct or launch.is_usable("search", x) or [w.category for w in caught] != [RuntimeWarning]:
        yield "a kernel that disagrees is used"
    if nearest_positions(x, None, [5, 4], 1, 3, "cosine", None).shape != (2, 20, 3):
        yield "plain torch does not go on"
    launch.enable("search", CPU)


def full_memory_case():
    """Without memory for the comparison the kernel is not at fault: the step fails, and a later one compares again."""

    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory")

    x = torch.randn(2, 20, 3)
    try:
        launch.is_correct("search", x, "a full card", fail)
    except torch.OutOfMemoryError:
        if launch.is_usable("search", x):
            return
    yield "a full card switches the kernel off"


def empty_case():
    """A map without positions has no neighbors, and nothing to compare."""
    warnings.simplefilter("error", RuntimeWarning)
    x = torch.empty(2, 0, 3)
    if nearest_positions(x, None, [0, 5], 1, 3, "cosine", None).shape != (2, 0, 3):
        yield "an empty map has neighbors"


def strided_case():
    """Vectors whose channels are not adjacent in memory have the neighbors of those whose channels are."""
    x = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0))
    strided = x.mT.contiguous().mT
    for metric in ("cosine", "euclidean"):
        options = (None, [5, 4], 0, 3, metric)
        if not torch.equal(nearest_keys(x, x, *options), nearest_keys(strided, strided, *options)):
            yield f"{metric}: the neighbors depend on strides"


def wrong_position_case():
    """A search that returns a worse candidate or none disagrees; nothing is indexed with what is none."""
    x, position = torch.randn(1, 20, 3), torch.arange(0, 40, 2)
    index = position[(torch.arange(20)[:, None] + torch.arange(3)) % 20][None]
    for wrong in (-1, 0, 1, 500):
        actual = index.clone()
        actual[0, 4, 1] = wrong
        if agree(actual, index, x, x, "cosine", position):
            yield f"position {wrong} passes for a neighbor"


if __name__ == "__main__":
    every = int(sys.argv[1])
    cases = (exact_cases(every), operator_cases(every), strided_case(), empty_case(), wrong_position_case())
    for line in itertools.chain(*cases, full_memory_case(), wrong_check_case()):
        print(line, flush=True)
