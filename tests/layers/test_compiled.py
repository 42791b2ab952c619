"""Every layer and option compiles to one full graph that computes the same, and the operators keep their promises."""

from itertools import product

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from convnn.layers import (
    Branching2d,
    ConvNN1d,
    ConvNN2d,
    ConvNNAttention1d,
    ConvNNAttention2d,
    CoordConv1d,
    CoordConv2d,
)
from convnn.layers.ops.aggregate import aggregate_backward, aggregate_tiles
from convnn.layers.ops.attend import attend, attend_backward
from convnn.layers.ops.nearest import nearest_keys, nearest_positions
from convnn.layers.ops.spatial import spatial_neighbors, spatial_neighbors_in_pool

SAMPLINGS = {
    "all": {},
    "random": {"sampling_type": "random", "num_samples": 9},
    "spatial": {"sampling_type": "spatial", "num_samples": 4},
}
MAKES = [ConvNN1d, ConvNN2d, ConvNNAttention1d, ConvNNAttention2d]


def with_samplings(makes, names):
    """Parameters of a test: each sampling in one dimension and the next in two, all the others in `make torture`.

    A layer of one dimension and that of two run the same code.
    """
    return [
        pytest.param(make, name, id=f"{make.__name__}-{name}", marks=[pytest.mark.torture] * ((row + column) % 2))
        for column, name in enumerate(names)
        for row, make in enumerate(makes)
    ]


def check(layer, x) -> None:
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    results = []
    for call in (layer, compiled):
        torch.manual_seed(0)
        layer.zero_grad()
        inner = x.clone().requires_grad_()
        out = call(inner)
        out.square().sum().backward()
        results.append([out.detach(), inner.grad, *[p.grad for p in layer.parameters()]])
    for plain, whole in zip(*results, strict=True):
        torch.testing.assert_close(plain, whole)


@pytest.mark.parametrize(("make", "sampling"), with_samplings(MAKES, [*SAMPLINGS, "random, fixed"]))
def test_neighbor_layers_compile_to_one_graph(make, sampling):
    options = {"K": 4, "magnitude_type": "euclidean", "aggregation_type": "Loc_Col"}
    name, *in_evaluation = sampling.split(", ")  # where random candidates are fixed
    layer = make(2, 3, shuffle_pattern="BA", shuffle_scale=2, **options, **SAMPLINGS[name]).train(not in_evaluation)
    check(layer, torch.randn(2, 2, *[16] * make.dims))


@pytest.mark.parametrize(("make", "sampling"), with_samplings([ConvNN1d, ConvNN2d], SAMPLINGS))
def test_similarities_compile_whole(make, sampling):
    for similarity, aggregation in product(("Loc", "Loc_Col"), ("Col", "Loc_Col")):
        for K in (3**make.dims, 4) if similarity == "Loc" else (4,):  # a whole window goes a way of its own
            layer = make(2, 3, K=K, similarity_type=similarity, aggregation_type=aggregation, **SAMPLINGS[sampling])
            check(layer, torch.randn(2, 2, *[9] * make.dims))


@pytest.mark.parametrize("make", [CoordConv1d, CoordConv2d])
def test_coordconv_compiles_whole(make):
    check(make(2, 3, aggregation_type="Loc_Col"), torch.randn(2, 2, *[6] * make.dims))


def test_branching_compiles_whole_under_autocast():
    layer = Branching2d(3, 8, ConvNN2d, lambda a, b: nn.Conv2d(a, b, 3, padding="same"))
    with torch.autocast("cpu", torch.bfloat16):
        check(layer, torch.randn(2, 3, 6, 6))


@pytest.mark.parametrize("make", MAKES)
def test_one_compiled_layer_takes_a_second_resolution(make):
    torch.compiler.reset()
    layer = make(2, 3, K=4).eval()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for side in (8, 6, 9):
        x = torch.randn(2, 2, *[side] * make.dims)
        torch.testing.assert_close(compiled(x), layer(x))


def test_operators_keep_the_promises_made_to_autograd_and_the_compiler():
    sides, x = [4, 4], torch.randn(2, 16, 3, requires_grad=True)
    pool = torch.tensor([0, 7, 14, 15, 20])
    index = nearest_positions(x.detach(), None, sides, 1, 4, "cosine", None)
    rows = [torch.randn(2, 16, 3, requires_grad=True) for _ in range(2)]
    weight, bias = torch.randn(5, 3, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    slots, start = torch.randn(3, 1, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    projections, keep = torch.randn(2, 16, 9, requires_grad=True), torch.rand(2, 16, 4)
    device = torch.device("cpu")
    for operator, arguments in (
        (nearest_positions, (x.detach(), pool, sides, 1, 4, "euclidean", 0.5)),
        (nearest_keys, (*(row.detach() for row in rows), None, sides, 1, 4, "cosine")),
        (spatial_neighbors, (sides, 1, 4, "all", -1, 0, device)),
        (spatial_neighbors_in_pool, (pool, sides, 1, 4)),
        (aggregate_tiles, (x, index, weight, bias, sides, 1, False)),
        (attend, (projections, index, keep, slots, start, sides, 1, "cosine")),
        (attend, (projections, index, None, slots, start, sides, 1, "euclidean")),
    ):
        torch.library.opcheck(operator.overload, arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_gradients_have_the_types_and_strides_that_the_compiler_expects(dtype):
    """Under autocast, attention has the projections in the half type and weights in float32."""
    sides, weight_dtype = [4, 4], torch.promote_types(dtype, torch.float32)
    index, attention = torch.randint(16, (2, 16, 4), dtype=torch.int16), torch.rand(2, 16, 4, dtype=weight_dtype)
    x, grad, projections = (torch.randn(2, channels, 16, dtype=dtype).mT for channels in (3, 5, 9))
    slots, start = torch.randn(3, 1, 4, dtype=weight_dtype), torch.randn(3, dtype=weight_dtype)
    weight = torch.randn(5, 3, 4, dtype=dtype)
    for operator, arguments in (
        (aggregate_backward, (grad, x, index, weight, sides, 0, False, True)),
        (attend_backward, (x, projections, index, None, slots, start, attention, sides, 0, "cosine")),
    ):
        torch.library.opcheck(operator.overload, arguments, test_utils=("test_schema", "test_faketensor"))


def test_one_image_compiles_whole_to_what_it_gives_uncompiled():
    """Uncompiled it goes a way of its own, so they are equal to rounding."""
    layer = ConvNN2d(2, 3, K=4, aggregation_type="Loc_Col").double()
    check(layer, torch.randn(1, 2, 6, 5, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"similarity_type": "Loc", "K": 4}, {"similarity_type": "Loc_Col"}])
def test_a_layer_on_tensors_without_data_leaves_nothing_behind(options):
    with FakeTensorMode():
        assert ConvNN2d(2, 3, **options)(torch.empty(2, 2, 7, 11)).shape == (2, 3, 7, 11)
    assert ConvNN2d(2, 3, **options)(torch.randn(2, 2, 7, 11)).isfinite().all()
    with FakeTensorMode():
        ConvNN2d(2, 3, **options)(torch.empty(2, 2, 7, 11))


def test_a_gradient_of_a_gradient_is_refused():
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(ConvNN2d(2, 3, K=4)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        grad.sum().backward()
