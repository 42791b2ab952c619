"""The worked examples of the definition, digit for digit."""

import pytest
import torch

from convnn.layers import ConvNN2d, ConvNNAttention2d

X = torch.tensor([[[1, 4, 2], [3, -1, 5]], [[2, -3, 1], [0, 4, -2]]])[None]
Z = torch.tensor([0, 0.1, 0.4, 0.9, 1.6, 2.5, 3.6, 4.9, 6.4, 8.1, 10, 12.1, 14.4, 16.9, 19.6, 22.5]).view(1, 1, 4, 4)


def ramp(*sizes: int) -> torch.Tensor:
    """1, 2, 3, ... along every side, multiplied, over ten."""
    lines = torch.meshgrid([torch.arange(1, size + 1) for size in sizes], indexing="ij")
    return torch.stack(lines).prod(0) / 10


def equals(out: torch.Tensor, expected: str) -> None:
    values = torch.tensor([float(word) for word in expected.split()], dtype=out.dtype)
    torch.testing.assert_close(out.flatten(), values, atol=2e-6, rtol=2e-7)  # six decimals are given


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("metric", "similarity", "aggregation", "expected"),
    [
        ("cosine", "Col", "Col", "3.4 0.9 2.5 1.7 2.9 0.6"),
        ("cosine", "Loc_Col", "Col", "3.1 0.9 2.5 -0.1 2.9 0.6"),
        ("cosine", "Loc_Col", "Loc_Col", "3.133333 1.283333 1.633333 0.05 2.516667 0.566667"),
        ("euclidean", "Col", "Col", "1.3 0.9 2.3 2.6 1.7 0.6"),
        ("euclidean", "Loc_Col", "Col", "1.3 0.9 2.3 2.6 1.7 0.6"),
        ("euclidean", "Loc_Col", "Loc_Col", "-0.25 1.283333 1.7 1.766667 2.466667 0.566667"),
    ],
)
def test_convnn(metric, similarity, aggregation, expected, dtype):
    options = {"magnitude_type": metric, "similarity_type": similarity, "aggregation_type": aggregation}
    layer = ConvNN2d(2, 1, K=3, **options).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(ramp(*layer.weight.shape))
        layer.bias.zero_()
        equals(layer(X.to(dtype)), expected)
    equals(layer(X.to(dtype)), expected)  # with gradients one small image goes a way of its own


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", "12.037706 10.331208 12.01241 12.28764 12.0711 9.565488"),
        ("euclidean", "9.581672 2.581347 8.478407 7.218551 9.511141 5.617971"),
    ],
)
@torch.no_grad()
def test_attention(metric, expected, dtype):
    layer = ConvNNAttention2d(2, 1, K=3, magnitude_type=metric, attention_dropout=0.0).to(dtype)
    layer.query.weight.copy_(torch.tensor([[1, 0.5], [0, 1]]))
    layer.key.weight.copy_(torch.eye(2))
    layer.value.weight.copy_(2 * torch.eye(2))
    layer.depthwise.weight.copy_(torch.tensor([1, 2, 3]))
    layer.pointwise.weight.fill_(1)
    layer.pointwise.bias.fill_(0.5)
    layer.output.weight.fill_(1)
    equals(layer(X.to(dtype)), expected)


@torch.no_grad()
def test_spatial():
    layer = ConvNN2d(1, 1, K=3, padding=0, magnitude_type="euclidean", sampling_type="spatial", num_samples=2)
    layer.weight.copy_(torch.tensor([0.1, 0.2, 0.3]))
    layer.bias.zero_()
    equals(layer(Z), "4.5 .28 .31 4.41 .34 .43 .54 .67 .82 3.96 4.15 10.84 6.21 11.32 10.78 5.4")


@torch.no_grad()
def test_shuffled():
    layer = ConvNN2d(1, 1, K=2, padding=0, magnitude_type="euclidean", shuffle_pattern="BA", shuffle_scale=2)
    layer.weight.copy_(ramp(*layer.weight.shape))
    layer.bias.zero_()
    expected = "8.02 16.04 6.26 12.52 24.06 32.08 18.78 25.04 49.94 99.88 44.98 89.96 149.82 199.76 134.94 179.92"
    equals(layer(Z), expected)
