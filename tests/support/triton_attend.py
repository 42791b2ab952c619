"""Runs the kernels of the attention in Triton's interpreter, which needs TRITON_INTERPRET=1; prints what differs."""

import itertools
import sys
import warnings

import torch

from convnn.layers import ConvNNAttention1d, ConvNNAttention2d
from convnn.layers.ops.attend import attend, attend_backward
from convnn.layers.ops.triton import launch

TOLERANCE = 5e-6  # of the largest value: float32 sums in another order
CPU = torch.device("cpu")


def cases(every):
    warnings.simplefilter("error", RuntimeWarning)
    grid = itertools.product(
        (ConvNNAttention1d, ConvNNAttention2d),
        ("cosine", "euclidean"),
        ("Col", "Loc_Col"),
        ("all", "random", "spatial"),
        (1, 0),
        (5, 1),
        (3, 20),
        (0.3, 0.0),
    )
    for number, case in enumerate(itertools.islice(grid, 0, None, every)):
        layer_class, metric, aggregation, sampling, padding, K, channels, dropout = case
        torch.manual_seed(number)
        samples = {"all": -1, "random": 7, "spatial": 4 if layer_class.dims == 2 else 6}[sampling]
        layer = layer_class(
            channels,
            6,
            K=K,
            padding=padding,
            magnitude_type=metric,
            aggregation_type=aggregation,
            sampling_type=sampling,
            num_samples=samples,
            attention_dropout=dropout,
        )
        with torch.no_grad():
            for parameter in layer.depthwise.parameters():
                parameter.copy_(torch.randn_like(parameter))
        x = torch.randn(2, channels, *(2, 5)[-layer.dims :] if layer.dims == 2 else (9,))
        x[0, ..., :2] = 0  # their queries and keys are zero vectors
        results = {}
        for way in ("plain", "ordered" if number % 2 else "atomic"):
            (launch.disable if way == "plain" else launch.enable)("attend", CPU)
            torch.use_deterministic_algorithms(way == "ordered")
            torch.manual_seed(number)
            layer.zero_grad()
            leaf = x.clone().requires_grad_()
            out = layer(leaf)
            out.square().sum().backward()
            results[way] = [out, leaf.grad, *(parameter.grad for parameter in layer.parameters())]
        for actual, expected in zip(results[way], results["plain"], strict=True):
            error = (actual - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
            if not error < TOLERANCE:
                yield f"{case}, {way}: {error:.1e}"


def shared_memory_case():
    """Each gradient has memory of its own, from its beginning, as compiled code expects of an operator."""
    for slots in (1, 3):
        projections, weight, bias = torch.randn(2, 9, 9), torch.randn(3, 1, slots), torch.randn(3)
        inputs = (projections, torch.randint(9, (2, 9, slots)), None, weight, bias)
        out, attention = attend(*inputs, [9], 0, "cosine")
        grads = attend_backward(out, *inputs, attention, [9], 0, "cosine")
        if {grad.untyped_storage().data_ptr() for grad in grads} != {grad.data_ptr() for grad in grads}:
            yield f"{slots} slots: gradients are parts of one tensor"


if __name__ == "__main__":
    for line in itertools.chain(cases(int(sys.argv[1])), shared_memory_case()):
        print(line, flush=True)
