"""The two-stage top-k equals a stable sort of whole rows: the same scores, and the lower column at ties."""

from itertools import product

import pytest
import torch

from convnn.layers.ops import top_k
from convnn.layers.ops.top_k import NARROW, best_columns, group_size, sorts_columns

WIDTHS = (1, 5, 64, NARROW, NARROW + 1, 200, 256, 264, 700, 1032, 1040, 3000)
COUNTS = (1, 2, 4, 8, 15)


def rows_of(kind, width):
    scores = torch.randn(20, width)
    if kind == "ties":
        return (3 * scores).round()
    if kind == "equal":
        return torch.zeros(20, width)
    if kind == "excluded":  # as a query's own position, or a column that is not used
        return scores.masked_fill(torch.rand_like(scores) < 0.5, -torch.inf)
    if kind == "float64":
        return (2 * scores.double()).round()
    return scores


def stable_columns(scores, k):
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]


@pytest.mark.parametrize("kind", ["normal", "ties", "equal", "excluded", "float64"])
@pytest.mark.parametrize("size", [None, 1, 8, 16, 32])
def test_the_columns_are_those_of_a_stable_sort(kind, size, monkeypatch):
    torch.manual_seed(0)
    if size is not None:
        monkeypatch.setattr(top_k, "group_size", lambda columns, k: size)
    for width, k in product(WIDTHS, COUNTS):
        if k > width or (size and -(-width // size) < k):
            continue
        scores = rows_of(kind, width)
        columns = best_columns(scores, k)
        assert torch.equal(columns, stable_columns(scores, k)), (width, k)
        assert torch.equal(scores.gather(-1, columns), scores.topk(k).values), (width, k)


def test_groups_are_used_where_both_sorts_are_narrow_together():
    assert group_size(1032, 8) == 16
    assert group_size(NARROW, 8) == group_size(400, 200) == 1
    for width, k in product(range(NARROW + 1, 5000, 97), (1, 3, 8, 24, 100)):
        size = group_size(width, k)
        assert size == 1 or (width // size >= k and 2 * (k * size + width // size) <= width)


@pytest.mark.parametrize(
    ("device", "columns", "k", "sorts"),
    [
        ("cuda", 1032, 8, True),
        ("cuda", 1032, 15, False),
        ("cuda", 264, 8, False),
        ("mps", 264, 15, True),
        ("cpu", 1032, 8, False),
    ],
)
def test_sorts_are_chosen_where_they_are_faster(device, columns, k, sorts):
    assert sorts_columns(columns, k, torch.device(device)) is sorts
