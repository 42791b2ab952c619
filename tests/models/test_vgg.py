"""The head of a VGG reads a pooled map, however it computes that."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnn.models.vgg import PooledLinear


def pooled(linear: PooledLinear, x: Tensor) -> Tensor:
    """What a PooledLinear is defined as."""
    return F.linear(F.adaptive_avg_pool2d(x, 7).flatten(1), linear.weight, linear.bias)


@pytest.mark.parametrize("side", [(1, 1), (1, 2), (2, 2), (6, 6), (7, 7), (7, 8), (3, 10), (8, 9), (14, 14)])
def test_head_equals_pool_then_linear_in_outputs_and_gradients(side):
    torch.manual_seed(0)
    linear = PooledLinear(5, 4).double()  # double: the order of the sums differs
    x = torch.randn(3, 5, *side, dtype=torch.float64, requires_grad=True)
    inputs = (x, linear.weight, linear.bias)
    ours, expected = linear(x), pooled(linear, x)
    torch.testing.assert_close(ours, expected)
    upstream = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )


def test_head_keeps_a_parameter_for_every_pooled_position():
    assert PooledLinear(512, 4).weight.shape == (4, 25088)
