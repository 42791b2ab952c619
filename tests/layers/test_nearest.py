"""The search finds the best on maps large enough for every layout of its score buffer."""

import pytest
import torch
from torch.nn import functional as F

from convnn.layers.ops.nearest import nearest_keys, nearest_positions


def scores_of(queries, keys, metric: str):
    if metric == "euclidean":
        return -torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist").square()
    return F.normalize(queries, dim=2) @ F.normalize(keys, dim=2).mT


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("side", [4, 13, 16, 26])  # narrow rows, widened ones and wide ones
@pytest.mark.parametrize("pooled", [False, True])
def test_the_best_are_found_in_rows_of_any_width(metric, side, pooled):
    torch.manual_seed(0)
    total = (side + 2) ** 2
    x = torch.randn(2, side * side, 3)
    keys = torch.randn(2, total, 3)  # as with coordinates: the pad has keys of its own
    pool = torch.randperm(total)[: total // 2].sort().values if pooled else None
    own = torch.arange(total).view(side + 2, side + 2)[1:-1, 1:-1].flatten()
    padded = F.pad(x.mT.unflatten(2, (side, side)), (1, 1, 1, 1)).flatten(2).mT
    for k in (2, 9, 17):
        for index, rows in (
            (nearest_positions(x, pool, [side, side], 1, k, metric, None), padded),
            (nearest_keys(x, keys, pool, [side, side], 1, k, metric), keys),
        ):
            assert (index[..., 0] == own).all()
            scores = scores_of(x.double(), rows.double(), metric)
            chosen = scores.gather(2, index[..., 1:].long())
            allowed = torch.full((total,), pool is None)
            if pool is not None:
                allowed[pool] = True
            scores = scores.masked_fill(~allowed, -torch.inf).scatter(2, own.expand(2, -1)[..., None], -torch.inf)
            torch.testing.assert_close(chosen, scores.topk(k - 1, dim=2).values, atol=2e-5, rtol=0)  # float32 scores
