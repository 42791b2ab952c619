"""Convolution over chosen positions: gather the vectors of K neighbors, multiply by the weight of their slots.

    B  batch     N   positions (queries)              K  neighbors, one per slot of the weight
    C  channels  N'  positions of the padded map      T  rows of a tile
                 d   channels gathered: C, or C + n with coordinates

A slot is one of the K here; `convnn.models` calls the convolutions of a model that a layer can replace slots, too.

The definition, with all that is gathered in memory at once:

    neighbors = rows[image, index]                                      # (B, N, K, d)
    out = torch.einsum("bnkd,odk->bno", neighbors, weight) + bias       # (B, N, out)

That takes B * N * K * d values, K times the input, and autograd would keep them. Here a tile of them exists at a time,
in one buffer, and the backward pass gathers again: the additional memory does not depend on B, N or K. The work is the
same, B * N * K * d * out multiply-adds.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.ops.coordinates import append_coordinates
from convnn.layers.ops.custom_op import DeviceCache, operator
from convnn.layers.ops.half_precision import product_dtype
from convnn.layers.ops.tiles import add_product, as_map, as_rows, interior_rows, pad_rows, tile_bytes, tiles
from convnn.layers.ops.triton import aggregate as fused
from convnn.layers.ops.triton import launch

SMALL_ROWS, SMALL_BYTES = 8192, 2 << 20
"""Rows gathered for one image, and their bytes, up to which a CPU spends its time on calls and not on arithmetic."""


def gather_tiles(
    x: Tensor,
    index: Tensor,
    sides: Sequence[int],
    padding: int,
    dtype: torch.dtype,
    *,
    coords: bool = False,
    transform: Callable[[Tensor], Tensor] = lambda source: source,
) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
    """Gather the neighbors' rows tile by tile. (B, N or N', C), (B or 1, N, K)

    Yields slices of images and of queries, the padded source rows (t, N', d), indices into them (T * K,), and the
    gathered rows of `transform(source)` (T, K, d) in a buffer that the next tile overwrites. (The indices are int64:
    with int32, torch's `index_add_` takes two to eight times as long on a CPU.)
    """
    slots, channels = index.shape[2], x.shape[2] + len(sides) * coords
    buffer: Tensor | None = None
    for images, queries in tiles(x.shape[0], index.shape[1], slots * channels * dtype.itemsize, tile_bytes(x.device)):
        source = pad_rows(x[images], sides, padding, dtype, coords=coords)
        count, length, _ = source.shape
        image_index = index[images if len(index) > 1 else slice(None), queries]
        flat_index = (image_index + _image_offsets(x.device, count, length)).flatten()
        if buffer is None:
            buffer = source.new_empty(len(flat_index), channels)
        gathered = torch.index_select(transform(source).flatten(0, 1), 0, flat_index, out=buffer[: len(flat_index)])
        yield images, queries, source, flat_index, gathered.view(-1, slots, channels)


@DeviceCache
def _image_offsets(device: torch.device, count: int, length: int) -> Tensor:
    """Return the number of the first row of each image. -> (count, 1, 1), int64"""
    with torch.inference_mode(False):
        return torch.arange(0, count * length, length, device=device).view(-1, 1, 1)


def aggregate(x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, padding: int, coords: bool) -> Tensor:
    """bias + sum over slots of weight @ neighbor. (B, C, *sides), (B or 1, N, K), (out, d, K) -> (B, out, *sides)

    The index may have fewer slots than the weight where the others could only hold padding (`NeighborLayer.num_slots`).
    """
    rows = index.shape[1] * weight.shape[2]
    is_small = len(x) == 1 and rows <= SMALL_ROWS and rows * weight.shape[1] * x.element_size() <= SMALL_BYTES
    is_suitable = torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if is_small and is_suitable and not torch.compiler.is_compiling():
        return aggregate_small(x, index, weight, bias, padding, coords)
    sides = x.shape[2:]
    return as_map(aggregate_tiles(as_rows(x), index, weight, bias, sides, padding, coords), sides)


def aggregate_small(x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, padding: int, coords: bool) -> Tensor:
    """`aggregate` of one image in the fewest calls, differentiated by autograd, which keeps what was gathered.

    It sums in another order, and is therefore not used without gradients: evaluation gives an image the same values
    alone and in a batch.
    """
    sides, missing_slots = x.shape[2:], weight.shape[2] - index.shape[2]
    padded = F.pad(x, (padding,) * (2 * len(sides)))
    source = (append_coordinates(padded) if coords else padded).flatten(2)  # (1, d, N')
    # slots first: what is gathered is then a factor of the product as it lies in memory
    positions = index[0].mT.to(torch.int64, memory_format=torch.contiguous_format)  # (K, N)
    if missing_slots:
        positions = F.pad(positions, (0, 0, 0, missing_slots))  # position 0 is padding, and zero
    flat_weight = weight.flatten(1)  # (out, d * K)
    gathered = source.index_select(2, positions.flatten()).view(flat_weight.shape[1], -1)  # (d * K, N)
    return torch.addmm(bias[:, None], flat_weight, gathered).view(1, -1, *sides)


class AggregateInputs(NamedTuple):
    """The arguments of `aggregate_tiles` but the bias, which its backward pass does not have."""

    x: Tensor  # (B, N, C)
    neighbor_index: Tensor  # (B or 1, N, K)
    weight: Tensor  # (out, d, K)
    sides: Sequence[int]
    padding: int
    coords: bool

    def first_images(self, count: int) -> "AggregateInputs":
        index = self.neighbor_index
        return self._replace(x=self.x[:count], neighbor_index=index[:count] if len(index) > 1 else index)

    def kernel_source(self) -> Tensor:
        """The map's own rows, whose padding the kernels know; or those of the padded map, with coordinates."""
        x = self.x
        return pad_rows(x, self.sides, self.padding, x.dtype, coords=True) if self.coords else x.contiguous()


@operator("convnn::aggregate")
def aggregate_tiles(
    x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int, coords: bool
) -> Tensor:
    """`aggregate` of position-major rows, tile by tile. (B, N, C), (B or 1, N, K), (out, d, K) -> (B, N, out)"""
    inputs = AggregateInputs(x, index, weight, sides, padding, coords)
    if _uses_kernels(inputs, bias):
        return _aggregate_in_registers(inputs, bias)
    return _aggregate_in_tiles(inputs, bias)


def _uses_kernels(inputs: AggregateInputs, bias: Tensor | None) -> bool:
    """Return whether there are kernels that agree with the tiles, in both directions.

    The backward pass, which has no bias, compares them with one of zeros.
    """
    x, index, weight, sides, padding, coords = inputs
    is_empty = not x.numel() or not index.numel()
    if is_empty or x.dtype not in launch.dtypes(x.device) or not launch.is_usable("aggregate", x):
        return False
    is_ordered = launch.adds_in_order()

    def agrees() -> bool:
        checked = inputs.first_images(launch.CHECKED_IMAGES)
        some_bias = weight.new_zeros(len(weight)) if bias is None else bias
        actual, expected = _aggregate_in_registers(checked, some_bias), _aggregate_in_tiles(checked, some_bias)
        grads = _aggregate_backward_in_registers(expected, checked, need_x=True, is_ordered=is_ordered)
        expected_grads = _aggregate_backward_in_tiles(expected, checked, need_x=True)
        return launch.agree([actual, *grads], [expected, *expected_grads], fused.tolerance(x))

    shapes = (x.shape[1:], index.shape[1:], len(index) > 1, weight.shape, tuple(sides), padding, coords)
    specialization = (x.dtype, fused.precision(x), is_ordered, *shapes)
    return launch.is_correct("aggregate", x, specialization, agrees)


def _aggregate_in_registers(inputs: AggregateInputs, bias: Tensor) -> Tensor:
    _, index, weight, sides, padding, _ = inputs
    slot_weight = weight[..., : index.shape[2]].permute(2, 1, 0).contiguous()  # (K, d, out)
    return fused.forward(inputs.kernel_source(), index.contiguous(), slot_weight, bias.contiguous(), sides, padding)


def _aggregate_backward_in_registers(
    grad: Tensor, inputs: AggregateInputs, need_x: bool, is_ordered: bool
) -> tuple[Tensor, Tensor]:
    x, index, weight, sides, padding, _ = inputs
    source, grad, index = inputs.kernel_source(), grad.to(x.dtype).contiguous(), index.contiguous()
    slots = index.shape[2]
    grad_weight = fused.by_weight(source, index, grad, sides, padding).sum(0).permute(2, 1, 0).to(weight.dtype)
    if slots < weight.shape[2]:
        grad_weight = F.pad(grad_weight, (0, weight.shape[2] - slots))
    grad_weight = grad_weight.contiguous()
    if not need_x:
        return x.new_empty(0), grad_weight
    slot_weight = weight[..., :slots].permute(2, 0, 1).contiguous()  # (K, out, d)
    grad_source = fused.by_x(grad, index, slot_weight, source.shape[1], sides, padding, is_ordered)
    grad_x = interior_rows(grad_source, sides, padding, x.shape[1])[..., : x.shape[2]]
    return grad_x.to(x.dtype).contiguous(), grad_weight


def _aggregate_in_tiles(inputs: AggregateInputs, bias: Tensor) -> Tensor:
    x, index, weight, sides, padding, coords = inputs
    out = x.new_empty(x.shape[0], index.shape[1], weight.shape[0])
    dtype = product_dtype(x)
    slot_weight = weight[..., : index.shape[2]].to(dtype)
    flat_weight = slot_weight.mT.flatten(1)  # (out, K * d): channels within slots, as in a gathered row
    for images, queries, _, _, gathered in gather_tiles(x, index, sides, padding, dtype, coords=coords):
        out_rows = out[images, queries].flatten(0, 1)
        if dtype == x.dtype:
            torch.addmm(bias, gathered.flatten(1), flat_weight.mT, out=out_rows)
        else:
            out_rows.copy_(torch.addmm(bias.to(dtype), gathered.flatten(1), flat_weight.mT))
    return out


@operator("convnn::aggregate_backward")
def aggregate_backward(
    grad: Tensor,
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    sides: Sequence[int],
    padding: int,
    coords: bool,
    need_x: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients by x and by weight, summed in float32 or float64. (B, N, out), ... -> (B, N, C), (out, d, K)

    The first is empty unless `need_x`.
    """
    inputs = AggregateInputs(x, index, weight, sides, padding, coords)
    if _uses_kernels(inputs, None):
        return _aggregate_backward_in_registers(grad, inputs, need_x, launch.adds_in_order())
    return _aggregate_backward_in_tiles(grad, inputs, need_x)


def _aggregate_backward_in_tiles(grad: Tensor, inputs: AggregateInputs, need_x: bool) -> tuple[Tensor, Tensor]:
    x, index, weight, sides, padding, coords = inputs
    in_channels, (out_channels, channels, _), slots = x.shape[2], weight.shape, index.shape[2]
    sum_dtype, dtype = torch.promote_types(x.dtype, torch.float32), product_dtype(x)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    flat_weight = weight[..., :slots].mT.flatten(1).to(dtype)  # (out, K * d)
    grad_flat_weight: Tensor | None = None
    for images, queries, source, flat_index, gathered in gather_tiles(x, index, sides, padding, dtype, coords=coords):
        grad_rows = grad[images, queries].reshape(-1, out_channels).to(dtype)  # (T, out)
        flat_gathered = gathered.flatten(1)  # (T, K * d)
        grad_flat_weight = add_product(grad_flat_weight, flat_gathered, grad_rows, sum_dtype)
        if not need_x:
            continue
        if queries.start == 0:
            grad_source = torch.zeros_like(source, dtype=sum_dtype)
        torch.mm(grad_rows, flat_weight, out=flat_gathered)  # the buffer is reused for the gradient of its contents
        grad_source.flatten(0, 1).index_add_(0, flat_index, gathered.flatten(0, 1).to(sum_dtype))
        if queries.stop == index.shape[1]:
            grad_x[images] = interior_rows(grad_source, sides, padding, x.shape[1])[..., :in_channels]
    if grad_flat_weight is None:  # no images
        return grad_x, torch.zeros_like(weight, memory_format=torch.contiguous_format)
    grad_weight = grad_flat_weight.view(slots, channels, out_channels).permute(2, 1, 0).to(weight.dtype)
    if slots < weight.shape[2]:
        grad_weight = F.pad(grad_weight, (0, weight.shape[2] - slots))
    return grad_x, grad_weight.contiguous()


@aggregate_tiles.register_fake
def _(x, index, weight, bias, sides, padding, coords):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], index.shape[1], weight.shape[0])


@aggregate_backward.register_fake
def _(grad, x, index, weight, sides, padding, coords, need_x):  # type: ignore[no-untyped-def]
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    return grad_x, torch.empty_like(weight, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, index, weight, _, *ctx.options = inputs
    ctx.save_for_backward(x, index, weight)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    x, index, weight = ctx.saved_tensors
    need_x = ctx.needs_input_grad[0]
    grad_x, grad_weight = aggregate_backward(grad, x, index, weight, *ctx.options, need_x)
    return grad_x if need_x else None, None, grad_weight, grad.sum((0, 1)), None, None, None


aggregate_tiles.register_autograd(_backward, _setup_context)
