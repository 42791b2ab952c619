"""Convolution over chosen positions: gather the rows of K neighbours, multiply by the weight of their slots.

B batch, C channels, d channels gathered (C, or C + n with coordinates), N queries, M source rows, K neighbours,
T rows of a tile. What is gathered lives for one tile; the backward pass gathers again.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from convnn.layers.ops.coordinates import with_coordinates
from convnn.layers.ops.custom_op import operator
from convnn.layers.ops.half_precision import product_dtype
from convnn.layers.ops.tiles import add_product, as_map, as_rows, interior_rows, pad_rows, tile_bytes, tiles

FEW_ROWS, FEW_BYTES = 8192, 2 << 20
"""Rows gathered for one image, and their bytes, up to which a CPU's time goes into calls and not into work."""


def gathers(
    x: Tensor,
    index: Tensor,
    sides: Sequence[int],
    padding: int,
    dtype: torch.dtype,
    *,
    coords: bool = False,
    ready: Callable[[Tensor], Tensor] = lambda source: source,
) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
    """Tiles: slices of images and queries, the source (t, M, d), row numbers in it (T * K,), and those rows (T, K, d).

    The rows are of `ready(source)` and lie in one buffer that the next tile overwrites. (64-bit row numbers: with
    32-bit ones torch's CPU `index_add_` takes two to eight times as long.)
    """
    slots, wide = index.shape[2], x.shape[2] + len(sides) * coords
    room: Tensor | None = None
    for images, rows in tiles(x.shape[0], index.shape[1], slots * wide * dtype.itemsize, tile_bytes(x.device)):
        source = pad_rows(x[images], sides, padding, dtype, coords=coords)
        count, length, _ = source.shape
        chosen = index[images if len(index) > 1 else slice(None), rows].to(torch.int64)
        first = torch.arange(0, count * length, length, device=x.device)
        numbers = (chosen + first.view(-1, 1, 1)).flatten()
        if room is None:
            room = source.new_empty(len(numbers), wide)
        found = torch.index_select(ready(source).flatten(0, 1), 0, numbers, out=room[: len(numbers)])
        yield images, rows, source, numbers, found.view(-1, slots, wide)


def aggregate(x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, padding: int, coords: bool) -> Tensor:
    """bias + sum over slots of weight @ neighbour. (B, C, *sides), (B or 1, N, K), (out, d, K), (out,) -> (B, out, ..)

    An index may have fewer slots than the weight where the others could hold pad alone (`NeighbourLayer.slots`).
    """
    rows = index.shape[1] * weight.shape[2]
    few = len(x) == 1 and rows <= FEW_ROWS and rows * weight.shape[1] * x.element_size() <= FEW_BYTES
    apt = torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if few and apt and not torch.compiler.is_compiling():
        return aggregate_few(x, index, weight, bias, padding, coords)
    sides = x.shape[2:]
    return as_map(aggregate_tiles(as_rows(x), index, weight, bias, sides, padding, coords), sides)


def aggregate_few(x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, padding: int, coords: bool) -> Tensor:
    """`aggregate` of one image in the fewest calls, by autograd, which keeps what was gathered.

    It sums in an order of its own, so where no gradients are wanted it is not used: evaluation gives an image the same
    figures alone and in a batch.
    """
    sides, missing = x.shape[2:], weight.shape[2] - index.shape[2]
    room = F.pad(x, (padding,) * (2 * len(sides)))
    source = (with_coordinates(room) if coords else room).flatten(2)
    numbers = index[0].mT.to(torch.int64, memory_format=torch.contiguous_format)  # slots first: found is a factor
    if missing:
        numbers = F.pad(numbers, (0, 0, 0, missing))  # position 0 is pad, and zero
    factor = weight.flatten(1)
    found = source.index_select(2, numbers.flatten()).view(factor.shape[1], -1)
    return torch.addmm(bias[:, None], factor, found).view(1, -1, *sides)


@operator("convnn::aggregate")
def aggregate_tiles(
    x: Tensor, index: Tensor, weight: Tensor, bias: Tensor, sides: Sequence[int], padding: int, coords: bool
) -> Tensor:
    """`aggregate` of rows, a tile at a time. (B, N, C), ... -> (B, N, out)"""
    out = x.new_empty(x.shape[0], index.shape[1], weight.shape[0])
    dtype = product_dtype(x)
    slots = weight[..., : index.shape[2]].to(dtype)
    flat = slots.mT.flatten(1)  # channels inside slots, as in a row of what is gathered
    for images, rows, _, _, found in gathers(x, index, sides, padding, dtype, coords=coords):
        room = out[images, rows].flatten(0, 1)
        if dtype == x.dtype:
            torch.addmm(bias, found.flatten(1), flat.mT, out=room)
        else:
            room.copy_(torch.addmm(bias.to(dtype), found.flatten(1), flat.mT))
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
    """Gradients by x and by weight, summed in float32 or better; the first is empty unless needed. (B, N, out), ..."""
    channels, (out, wide, _), slots = x.shape[2], weight.shape, index.shape[2]
    exact, dtype = torch.promote_types(x.dtype, torch.float32), product_dtype(x)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    flat = weight[..., :slots].mT.flatten(1).to(dtype)  # (out, K * d)
    by_weight = torch.zeros(slots * wide, out, dtype=exact, device=x.device)
    for images, rows, source, numbers, found in gathers(x, index, sides, padding, dtype, coords=coords):
        part = grad[images, rows].reshape(-1, out).to(dtype)
        gathered = found.flatten(1)
        add_product(by_weight, gathered, part)
        if not need_x:
            continue
        if rows.start == 0:
            by_source = torch.zeros_like(source, dtype=exact)
        torch.mm(part, flat, out=gathered)  # what was gathered has served: its gradient takes its place
        by_source.flatten(0, 1).index_add_(0, numbers, found.flatten(0, 1).to(exact))
        if rows.stop == index.shape[1]:
            grad_x[images] = interior_rows(by_source, sides, padding, x.shape[1])[..., :channels]
    grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    grad_weight[..., :slots] = by_weight.view(slots, wide, out).permute(2, 1, 0)
    return grad_x, grad_weight


@aggregate_tiles.register_fake
def _(x, index, weight, bias, sides, padding, coords):  # type: ignore[no-untyped-def]
    return x.new_empty(x.shape[0], index.shape[1], weight.shape[0])


@aggregate_backward.register_fake
def _(grad, x, index, weight, sides, padding, coords, need_x):  # type: ignore[no-untyped-def]
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    return grad_x, torch.empty_like(weight, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, index, weight, _, *ctx.options = inputs
    ctx.save_for_backward(x, index, weight)


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    x, index, weight = ctx.saved_tensors
    need_x = ctx.needs_input_grad[0]
    grad_x, grad_weight = aggregate_backward(grad, x, index, weight, *ctx.options, need_x)
    return grad_x if need_x else None, None, grad_weight, grad.sum((0, 1)), None, None, None


aggregate_tiles.register_autograd(_backward, _save)
