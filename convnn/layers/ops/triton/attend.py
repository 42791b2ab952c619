"""Attention over chosen positions that writes nothing of what it gathers: see `convnn.layers.ops.attend`.

    B  batch      N  queries     S  rows of an image's projections: the map's, or those of the padded map
    d  channels   K  slots

All is computed and summed in float32; only what is written is rounded to the type of the projections.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convnn.layers.ops.coordinates import padded_sides
from convnn.layers.ops.triton.launch import Launch
from convnn.layers.ops.triton.positions import entries_by_position, source_map

MAX_CHANNELS, MAX_SLOTS = 4096, 64  # a program has all channels of a row, and all its weights, in registers
NUMBERS, MAX_ROWS = 2048, 64  # of a program
WARP_NUMBERS, MIN_WARPS = 256, 4  # some eight vectors of these are in registers at a time
TOLERANCE, HALF_TOLERANCE = 2e-5, 2e-2  # of the largest value: sums in another order, or rounded to a half type


class AttendInputs(NamedTuple):
    """The arguments of `convnn.layers.ops.attend.attend`."""

    projections: Tensor  # (B, S, 3 d)
    neighbor_index: Tensor  # (B, N, K)
    keep: Tensor | None  # (B, N, K)
    weight: Tensor  # (d, 1, K)
    bias: Tensor  # (d,)
    sides: Sequence[int]
    padding: int
    metric: str

    @property
    def options(self) -> tuple[Sequence[int], int, str]:
        """Return all but the tensors."""
        return self.sides, self.padding, self.metric

    def first_images(self, count: int) -> "AttendInputs":
        """Return those of the first images of the batch."""
        keep = None if self.keep is None else self.keep[:count]
        return self._replace(
            projections=self.projections[:count], neighbor_index=self.neighbor_index[:count], keep=keep
        )

    def contiguous(self) -> "AttendInputs":
        """Return the same with contiguous tensors, as the kernels read them."""
        return AttendInputs._make(value.contiguous() if isinstance(value, Tensor) else value for value in self)


class Tiles(NamedTuple):
    """Rows and channels of a program, and warps."""

    rows: int
    channels: int
    warps: int


def attend_tiles(channels: int) -> Tiles:
    """Return the tiles for rows of so many channels."""
    block_channels = max(2, 1 << (channels - 1).bit_length())
    rows = max(1, min(MAX_ROWS, NUMBERS // block_channels))
    return Tiles(rows, block_channels, max(MIN_WARPS, rows * block_channels // WARP_NUMBERS))


def tolerance(projections: Tensor, scores: Tensor) -> float:
    """Return the share of the largest value by which results may differ from those of plain torch.

    The softmax makes a relative error of what is rounded of a score, which is a share of it.
    """
    if projections.dtype != torch.float32:
        return HALF_TOLERANCE
    return TOLERANCE * (1 + float(scores.nan_to_num(0, 0, 0).abs().amax()))


def _arguments(
    projections: Tensor,
    keep: Tensor | None,
    weight: Tensor,
    attention: Tensor,
    sides: Sequence[int],
    padding: int,
    metric: str,
) -> dict[str, Any]:
    """Arguments that the kernels have in common."""
    _, source_rows, width = projections.shape
    _, length, slots = attention.shape
    shape, tiles = source_map(source_rows, sides, padding), attend_tiles(width // 3)
    return {
        "projections_ptr": projections,
        "keep_ptr": attention if keep is None else keep,  # not read
        "weight_ptr": weight,
        "attention_ptr": attention,
        "N": length,
        "S": source_rows,
        "D": width // 3,
        "W": shape.width,
        "K": slots,
        "PH": shape.outer_height,
        "PW": shape.outer_width,
        "QH": shape.inner_height,
        "QW": shape.inner_width,
        "COSINE": metric == "cosine",
        "HAS_KEEP": keep is not None,
        "BT": tiles.rows,
        "BD": tiles.channels,
        "num_warps": tiles.warps,
    }


def _by_row(index: Tensor, sides: Sequence[int]) -> dict[str, Any]:
    """Arguments of the kernels whose programs have rows of the output."""
    batch, length, slots = index.shape
    block_slots = max(2, 1 << (slots - 1).bit_length())
    return {"index_ptr": index, "T": batch * length, "H": (1, *sides)[-2], "SLOTS": block_slots}


def _launch_forward(
    projections: Tensor,
    index: Tensor,
    keep: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    sides: Sequence[int],
    padding: int,
    metric: str,
) -> tuple[Tensor, Tensor]:
    """(B, S, 3 d), (B, N, K) twice, (d, 1, K), (d,) -> (B, N, d), (B, N, K)"""
    from convnn.layers.ops.triton.kernels.attend import forward_kernel

    out, attention = _fake_forward(projections, index, keep, weight, bias, sides, padding, metric)
    arguments = _arguments(projections, keep, weight, attention, sides, padding, metric) | _by_row(index, sides)
    blocks = -(-arguments["T"] // arguments["BT"])
    forward_kernel[(blocks,)](bias_ptr=bias, out_ptr=out, **arguments)
    return out, attention


def _launch_backward(
    grad: Tensor,
    projections: Tensor,
    index: Tensor,
    keep: Tensor | None,
    weight: Tensor,
    attention: Tensor,
    grad_projections: Tensor,
    grad_scores: Tensor | None,
    sides: Sequence[int],
    padding: int,
    metric: str,
) -> Tensor:
    """Write gradients by queries to zeros; add those by keys and values, or write those by scores, if they are given.

    Returns parts of the sum over rows that is the gradient by weight and bias. -> (programs, K + 1, d)
    """
    from convnn.layers.ops.triton.kernels.attend import backward_kernel

    parts = _fake_backward(
        grad, projections, index, keep, weight, attention, grad_projections, grad_scores, sides, padding, metric
    )
    backward_kernel[(len(parts),)](
        grad_ptr=grad,
        grad_projections_ptr=grad_projections,
        grad_scores_ptr=attention if grad_scores is None else grad_scores,  # not written
        parts_ptr=parts,
        ADDS=grad_scores is None,
        **_arguments(projections, keep, weight, attention, sides, padding, metric),
        **_by_row(index, sides),
    )
    return parts


def _launch_by_source(
    grad: Tensor,
    projections: Tensor,
    order: Tensor,
    starts: Tensor,
    keep: Tensor | None,
    weight: Tensor,
    attention: Tensor,
    grad_scores: Tensor,
    grad_projections: Tensor,
    sides: Sequence[int],
    padding: int,
    metric: str,
) -> None:
    """Write gradients by keys and by values, summed in the order of `entries_by_position`."""
    from convnn.layers.ops.triton.kernels.attend import by_source_kernel

    arguments = _arguments(projections, keep, weight, attention, sides, padding, metric)
    rows = len(projections) * projections.shape[1]
    by_source_kernel[(-(-rows // arguments["BT"]),)](
        grad_ptr=grad,
        order_ptr=order,
        starts_ptr=starts,
        grad_scores_ptr=grad_scores,
        grad_projections_ptr=grad_projections,
        ROWS=rows,
        P=prod(padded_sides(sides, padding)),
        **arguments,
    )


def _fake_forward(projections, index, keep, weight, bias, sides, padding, metric):  # type: ignore[no-untyped-def]
    out = projections.new_empty(*index.shape[:2], projections.shape[2] // 3)
    return out, projections.new_empty(index.shape, dtype=torch.float32)


def _fake_backward(  # type: ignore[no-untyped-def]
    grad, projections, index, keep, weight, attention, grad_projections, grad_scores, sides, padding, metric
):
    channels = projections.shape[2] // 3
    programs = -(-index.shape[0] * index.shape[1] // attend_tiles(channels).rows)
    return projections.new_empty(programs, index.shape[2] + 1, channels, dtype=torch.float32)


def _fake_by_source(*arguments):  # type: ignore[no-untyped-def]
    return None


forward = Launch("attend", _launch_forward, _fake_forward)
add_backward = Launch("attend_backward", _launch_backward, _fake_backward, mutates=("grad_projections", "grad_scores"))
by_source = Launch("attend_by_source", _launch_by_source, _fake_by_source, mutates=("grad_projections",))


def backward(grad: Tensor, inputs: AttendInputs, attention: Tensor, is_ordered: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by projections, weight and bias in float32; additions are atomic, or else in one order (`is_ordered`).

    (B, N, d), ..., (B, N, K) -> (B, S, 3 d), (d, 1, K), (d,)
    """
    projections, index, keep, weight, _, *options = inputs
    grad_projections = torch.zeros_like(projections, dtype=torch.float32)
    grad_scores = torch.empty_like(attention) if is_ordered else None
    factors = (keep, weight, attention)
    parts = add_backward(grad, projections, index, *factors, grad_projections, grad_scores, *options)
    if grad_scores is not None:
        entries = entries_by_position(index, len(projections), prod(padded_sides(inputs.sides, inputs.padding)))
        by_source(grad, projections, *entries, *factors, grad_scores, grad_projections, *options)
    # two sums and not parts of one: outputs of an operator share no memory, and the compiler expects aligned ones
    return grad_projections, parts[:, :-1].sum(0).mT[:, None], parts[:, -1].sum(0)
