"""Runs the kernels of the convolution in Triton's interpreter, which needs TRITON_INTERPRET=1; prints what differs."""

import itertools
import sys
import warnings

import torch

from convnn.layers import ConvNN1d, ConvNN2d
from convnn.layers.ops.aggregate import aggregate_tiles
from convnn.layers.ops.triton import launch

TOLERANCE = 2e-6  # of the largest value: float32 sums in another order


def cases(every):
    warnings.simplefilter("error", RuntimeWarning)
    grid = itertools.product(
        (ConvNN1d, ConvNN2d), ("Col", "Loc"), ("Col", "Loc_Col"), (0, 1), (1, 5), (3, 20), ("all", "random")
    )
    for number, case in enumerate(itertools.islice(grid, 0, None, every)):
        layer_class, similarity, aggregation, padding, K, channels, sampling = case
        torch.manual_seed(number)
        options = {"sampling_type": sampling, "num_samples": 7} if sampling != "all" else {}
        layer = layer_class(
            channels, 6, K=K, padding=padding, similarity_type=similarity, aggregation_type=aggregation, **options
        ).eval()
        results = []
        for way in ("plain", "ordered" if number % 2 else "atomic"):
            (launch.disable if way == "plain" else launch.enable)("aggregate", torch.device("cpu"))
            torch.use_deterministic_algorithms(way == "ordered")
            torch.manual_seed(number)
            x = torch.randn(2, channels, *(1, 9)[-layer.dims :], requires_grad=True)
            layer.zero_grad()
            out = layer(x)
            out.square().sum().backward()
            results.append([out, x.grad, layer.weight.grad, layer.bias.grad])
        for actual, expected in zip(*results, strict=True):
            error = (actual - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
            if not error < TOLERANCE:
                yield f"{case}, {way}: {error:.1e}"


def strided_case():
    """The strides of the arguments, of which the compiler and autograd know nothing, change no value."""
    x, weight, bias = torch.randn(2, 3, 9).mT, torch.randn(5, 4, 3).mT, torch.randn(10)[::2]
    index = torch.randint(9, (2, 4, 9)).mT
    arguments = (x, index, weight, bias)
    actual = aggregate_tiles(*arguments, [9], 0, False)
    expected = aggregate_tiles(*(tensor.contiguous() for tensor in arguments), [9], 0, False)
    if not torch.equal(actual, expected):
        yield "the convolution depends on strides"


if __name__ == "__main__":
    for line in itertools.chain(cases(int(sys.argv[1])), strided_case()):
        print(line, flush=True)
