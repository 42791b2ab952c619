"""What docs/original.md says of the layers of the original project, in numbers: its choices are made here again."""

from pathlib import Path

import pytest
import torch
from support import reference_layers as reference
from torch.nn import functional as F

from convnn.layers import ConvNN2d, ConvNNAttention2d
from convnn.layers.branching import Branching2d
from convnn.layers.ops.coordinates import interior_positions
from convnn.layers.ops.spatial import spatial_neighbors_in_pool
from convnn.layers.sampling import Sampling

DOC = " ".join((Path(__file__).parents[2] / "docs" / "original.md").read_text().split())
CPU = torch.device("cpu")
SIDE, PADDING, K = 32, 1, 9
OUTER = SIDE + 2 * PADDING


def coordinates() -> torch.Tensor:
    """Of every position of the padded map, from -1 to 1. (N', 2)"""
    line = torch.linspace(-1, 1, OUTER)
    return torch.cartesian_prod(line, line)


def pixels(positions: torch.Tensor) -> torch.Tensor:
    """Row and column of padded positions. (..., 2)"""
    return torch.stack(torch.unravel_index(positions, (OUTER, OUTER)), dim=-1)


def test_the_cosine_of_coordinates_is_an_angle_and_no_distance():
    queries, unit = interior_positions((SIDE, SIDE), PADDING, CPU), F.normalize(coordinates(), dim=1)
    scores = unit[queries] @ unit.mT
    scores[torch.arange(len(queries)), queries] = 1.1  # itself first
    neighbors = scores.sort(dim=1, descending=True, stable=True).indices[:, :K]
    in_window = (pixels(neighbors) - pixels(queries)[:, None]).abs().amax(2) <= 1
    assert f"{in_window.float().mean():.0%}".replace("%", " % of its neighbors lie in the 3x3 window") in DOC
    x = torch.randn(1, 2, SIDE, SIDE)
    layer = ConvNN2d(2, 3, K=K, padding=PADDING, similarity_type="Loc", magnitude_type="cosine")
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight.view(3, 2, 3, 3), layer.bias, padding=1))


def test_random_candidates_are_near_by_pixels_and_not_by_scaled_coordinates():
    queries = interior_positions((SIDE, SIDE), PADDING, CPU)
    pool = Sampling("random", 64).pool((SIDE, SIDE), PADDING, True, CPU)
    ours = spatial_neighbors_in_pool(pool, (SIDE, SIDE), PADDING, K)[0]
    scaled = coordinates()
    distances = (scaled[queries][:, None] - scaled[pool]).norm(dim=2)
    distances[queries[:, None] == pool] = torch.inf  # the query is no candidate: it is there already
    nearest = pool[distances.topk(K - 1, dim=1, largest=False).indices]
    original = torch.cat((queries[:, None], nearest), dim=1).sort(dim=1).values
    share = (original != ours).any(dim=1).float().mean()
    assert share == pytest.approx(0.42, abs=0.02)  # which of equal distances topk takes is up to the machine
    assert "42 % of the positions of a 32x32 map have other neighbors" in DOC


def test_a_grid_of_the_whole_side_is_all_positions():
    assert Sampling("spatial", 8).pool((8, 8), 1, True, CPU) is None
    assert Sampling("spatial", 8).pool_size((8, 8), 1) == 100
    assert len(reference.candidates_of((9, 9), 1, "spatial", 8, 0)) == 64
    assert "64 candidates against 100 on an 8x8 map" in DOC


def test_the_own_score_of_an_attention_is_the_true_one():
    torch.manual_seed(0)
    layer, rows = ConvNNAttention2d(64, 64, K=K), torch.randn(4, 256, 64)
    scores = F.normalize(layer.query(rows), dim=2) @ F.normalize(layer.key(rows), dim=2).mT
    selection = scores.detach().clone()
    selection.diagonal(dim1=1, dim2=2).fill_(1.1)
    chosen = selection.topk(K, dim=2)
    original = chosen.values.softmax(2)[..., 0].mean()
    ours = scores.gather(2, chosen.indices).softmax(2)[..., 0].mean()
    assert f"its own weight is {ours:.2f} of K 9 with 64 channels, not {original:.2f}" in DOC


def test_the_depthwise_bias_begins_at_zero():
    layer = ConvNNAttention2d(8, 8, K=K)
    assert not layer.depthwise.bias.any()
    default = torch.nn.Conv1d(8, 8, K, groups=8).bias.abs()
    assert 0 < default.max() <= 1 / K**0.5 and f"within {1 / K**0.5:.2f} of zero" in DOC


def test_branch_channels_are_rounded():
    def channels(count: int, ratio: float) -> int:
        branches = Branching2d(
            1, count, *[lambda inside, outside: torch.nn.Conv2d(inside, outside, 1)] * 2, branch_ratio=ratio
        )
        return branches.first.out_channels if branches.first is not None else 0

    for eighths in range(9):
        assert all(channels(count, eighths / 8) == int(count * eighths / 8) for count in (64, 128, 256, 512))
    assert (int(256 * 0.3), channels(256, 0.3)) == (76, 77) and "at 0.3, 76 of 256 channels against 77" in DOC
