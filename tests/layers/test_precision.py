"""Numbers at the edge: zero vectors, half types, near neighbors far from the origin, repeated results."""

from itertools import product

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convnn.layers import ConvNN1d, ConvNN2d, ConvNNAttention1d, ConvNNAttention2d
from convnn.layers.ops import half_precision
from convnn.layers.ops.custom_op import OPERATORS
from convnn.layers.ops.nearest import nearest_positions
from convnn.training.device import set_float32_products

BOTH = [ConvNN2d, ConvNNAttention2d]


@pytest.mark.parametrize("make", [*BOTH, ConvNN1d, ConvNNAttention1d])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zero_positions_get_finite_gradients(make, metric, dtype):
    for aggregation, images in product(("Col", "Loc_Col"), (1, 2)):
        layer = make(3, 4, K=4, magnitude_type=metric, aggregation_type=aggregation).to(dtype)
        x = torch.randn(images, 3, *[5] * make.dims, dtype=dtype)
        x[0] = 0
        x[1:, ..., :2] = 0
        x.requires_grad_()
        layer(x).square().mean().backward()
        assert all(tensor.grad.isfinite().all() for tensor in (x, *layer.parameters()))


def test_a_vector_too_short_for_its_squares_is_near_no_other():
    x = torch.rand(1, 3, 4, 4) + 0.1  # all cosines of these are far above zero
    x[..., 0, 0] = 1e-25
    index = nearest_positions(x.flatten(2).mT, None, [4, 4], 0, 5, "cosine", None)
    assert (index[0, 1:] != 0).all()


def test_a_zero_vector_passes_no_gradient_through_its_cosine():
    layer = ConvNNAttention2d(2, 3, K=3, attention_dropout=0.0)
    layer.value.weight.data.zero_()  # what is left comes through the weights alone, and they are multiplied by zero
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert (x.grad == 0).all()
    assert (layer.query.weight.grad == 0).all()
    assert (layer.key.weight.grad == 0).all()


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_follow_float32(make, dtype):
    layer, x = make(8, 16, K=4), torch.randn(2, 8, 5, 5).to(dtype).float()
    layer.eval()
    exact = layer(x)
    close = make(8, 16, K=4).eval()
    close.load_state_dict(layer.state_dict())
    out = close.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    far = (out.float() - exact).norm() / exact.norm()
    # products lose 8 or 11 bits; attention also rounds its keys, so a near tie may choose otherwise
    assert far < (0.02 if make is ConvNN2d else 0.15)


@pytest.mark.parametrize("make", BOTH)
def test_autocast_computes_products_in_its_type_and_gradients_in_the_parameters(make):
    layer, x = make(8, 16, K=4).eval(), torch.randn(2, 8, 5, 5)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).norm() / exact.norm() < (0.02 if make is ConvNN2d else 0.15)
    out.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


def test_autocast_leaves_the_search_exact():
    x = torch.randn(1, 4, 8, 8)
    arguments = (x.flatten(2).mT, None, [8, 8], 1, 5, "cosine", None)
    plain = nearest_positions(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_positions(*arguments), plain)


@pytest.mark.parametrize("similarity", ["Col", "Loc_Col"])
def test_near_neighbors_survive_a_large_offset_in_float32(similarity):
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64).mul(64).round() / 64 + 1000  # exact in float32
    layer = ConvNN2d(3, 1, K=5, magnitude_type="euclidean", similarity_type=similarity, lambda_param=0.9)
    assert torch.equal(layer._neighbor_index(x.float(), (8, 8)), layer._neighbor_index(x, (8, 8)))


@pytest.mark.parametrize(("metric", "sides"), [("cosine", (7, 6)), ("euclidean", (7, 6)), ("euclidean", (3, 2))])
def test_scores_are_tiled_without_a_seam(monkeypatch, metric, sides):
    """Results do not depend on how much is worked on at a time."""
    from convnn.layers.ops import nearest, tiles

    x = torch.randn(5, 3, *sides, dtype=torch.float64)
    for make in BOTH:
        layer = make(3, 4, K=4, magnitude_type=metric).double().eval()
        expected = layer(x)
        grads = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
        for tile in (1, 1000, 20000):
            with monkeypatch.context() as patch:
                for module, name in ((tiles, "TILE_BYTES"), (nearest, "SCORE_BYTES"), (nearest, "MAX_SCORE_BYTES")):
                    patch.setattr(module, name, tile)
                out = layer(x)
                torch.testing.assert_close(out, expected)
                torch.testing.assert_close(torch.autograd.grad(out.square().sum(), list(layer.parameters())), grads)


@pytest.mark.parametrize("make", BOTH)
def test_the_same_seed_gives_the_same_bits(make):
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        layer, x = make(16, 32, sampling_type="random", num_samples=40), torch.randn(8, 16, 12, 12, requires_grad=True)
        out = layer(x)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *[p.grad for p in layer.parameters()]])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("make", BOTH)
def test_memory_format_and_strides_of_the_input_do_not_matter(make):
    layer, x = make(3, 4).eval(), torch.randn(2, 3, 6, 5)
    strided = torch.randn(2, 6, 6, 10)[:, ::2, :, ::2].copy_(x)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    for copy, images in product((channels_last, strided), (1, 2)):
        torch.testing.assert_close(layer(copy[:images]), layer(x[:images]))


@pytest.mark.parametrize("make", BOTH)
def test_an_empty_batch_passes(make):
    layer, x = make(3, 4), torch.zeros(0, 3, 5, 5, requires_grad=True)
    out = layer(x)
    assert out.shape == (0, 4, 5, 5)
    out.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("emulated", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_products_are_those_of_the_rounded_operands(monkeypatch, dtype, emulated):
    """With or without the processor's own instructions, to the rounding of each result."""
    monkeypatch.setattr(half_precision, "EMULATED", emulated)
    layer = ConvNN2d(8, 16, K=4, aggregation_type="Loc_Col").to(dtype).float()
    exact = ConvNN2d(8, 16, K=4, aggregation_type="Loc_Col").double()
    exact.load_state_dict(layer.state_dict())
    x, above = torch.randn(2, 8, 5, 5).to(dtype).float(), torch.randn(2, 16, 5, 5).to(dtype)
    with torch.autocast("cpu", dtype):
        out = layer(x)
    assert out.dtype == dtype
    out.backward(above)
    exact(x.double()).backward(above.double())
    bound = 2.0 ** (-7 if dtype == torch.bfloat16 else -10)
    for (name, parameter), exact_parameter in zip(layer.named_parameters(), exact.parameters(), strict=True):
        difference = (parameter.grad.double() - exact_parameter.grad).norm()
        assert difference <= bound * exact_parameter.grad.norm(), name


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_without_half_instructions_is_rounded_once(monkeypatch, bias):
    monkeypatch.setattr(half_precision, "EMULATED", True)
    x, weight = torch.randn(2, 5, 64, requires_grad=True), torch.randn(7, 64, requires_grad=True)
    offset = torch.randn(7, requires_grad=True) if bias else None
    rounded = [None if part is None else part.to(torch.bfloat16).double() for part in (x, weight, offset)]
    with torch.autocast("cpu", torch.bfloat16):
        out = half_precision.linear(x, weight, offset)
    expected = torch.nn.functional.linear(*rounded)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=2**-8, atol=1e-5)
    out.sum().backward()
    torch.testing.assert_close(weight.grad, rounded[0].sum((0, 1)).float().expand(7, 64), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(x.grad, rounded[1].sum(0).float().expand(2, 5, 64), rtol=2**-7, atol=1e-3)
    if offset is not None:
        assert (offset.grad == 10).all()


class Products(TorchDispatchMode):
    """Lists how float32 products are computed on a GPU and on a CPU, by the operator of ours that computes them."""

    def __init__(self):
        super().__init__()
        self.precisions = {}
        self.operator = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in OPERATORS:
            self.operator = func.name().removeprefix("convnn::")
            with self:
                return OPERATORS[func].function(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            self.precisions.setdefault(self.operator, set()).add(precisions())
        return func(*args, **(kwargs or {}))


def precisions():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


def set_for_cuda_alone():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.fixture
def default_products():
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "choose",
    [
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
        set_for_cuda_alone,
        lambda: set_float32_products("tf32"),
    ],
    ids=["high", "medium", "allow_tf32", "cuda alone", "--matmul"],
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("layer_class", [ConvNN2d, ConvNNAttention2d])
def test_the_search_multiplies_in_float32_whatever_is_set(choose, metric, layer_class, default_products):
    layer, x = layer_class(3, 4, magnitude_type=metric), torch.randn(2, 3, 12, 12)
    choose()
    before = precisions()
    assert before[0] == "tf32"
    with torch.no_grad(), Products() as products:
        layer(x)
    search = "nearest_positions" if layer_class is ConvNN2d else "nearest_keys"
    assert products.precisions[search] == {("ieee", "ieee")}
    assert precisions() == before


def test_attention_sums_in_float32_as_its_kernels_do(default_products):
    """On a card its kernels are compared with it, and the products of projections may be in TF32."""
    set_float32_products("tf32")
    layer, x = ConvNNAttention2d(3, 4), torch.randn(2, 3, 12, 12)
    with Products() as products:
        layer(x).sum().backward()
    assert products.precisions["attend"] == products.precisions["attend_backward"] == {("ieee", "ieee")}
    assert precisions()[0] == "tf32"


@pytest.mark.parametrize("kind", ["tf32", "fp32"])
def test_products_and_convolutions_are_computed_alike(kind, default_products):
    set_float32_products(kind)
    conv = torch.backends.cudnn.conv.fp32_precision
    assert (torch.backends.cuda.matmul.fp32_precision, conv) == {
        "tf32": ("tf32", "tf32"),
        "fp32": ("ieee", "ieee"),
    }[kind]
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (kind == "tf32")
