"""FLOPs of the layers' operators, by which the compiler decides what is cheap to compute again.

Without them an operator counts as free: `reduce-memory` would search for neighbors twice.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from convnn.layers.ops import aggregate, attend, half_precision, nearest, spatial  # noqa: F401  (they define them)
from convnn.layers.ops.coordinates import padded_sides

Shape = Sequence[int]


def _nearest_positions(
    x: Shape, pool: Shape | None, sides: Shape, padding: int, k: int, *_: Any, out_shape: Any = None
) -> int:
    """(B, N, C), (M,)"""
    return 2 * prod(x) * _candidates(pool, sides, padding)


def _nearest_keys(
    queries: Shape, keys: Shape, pool: Shape | None, sides: Shape, padding: int, *_: Any, out_shape: Any = None
) -> int:
    """(B, N, d), (B, N or N', d), (M,)"""
    return 2 * prod(queries) * _candidates(pool, sides, padding)


def _candidates(pool: Shape | None, sides: Shape, padding: int) -> int:
    return prod(padded_sides(sides, padding)) if pool is None else pool[0]


def _aggregate(x: Shape, index: Shape, weight: Shape, *_: Any, out_shape: Any = None) -> int:
    """(B, N, C), (B or 1, N, K), (out, d, K)"""
    return 2 * x[0] * index[1] * prod(weight)


def _aggregate_backward(
    grad: Shape,
    x: Shape,
    index: Shape,
    weight: Shape,
    sides: Shape,
    padding: int,
    coords: bool,
    need_x: bool,
    out_shape: Any = None,
) -> int:
    return (1 + need_x) * _aggregate(x, index, weight)


def _attend(projections: Shape, index: Shape, *_: Any, out_shape: Any = None) -> int:
    """(B, M, 3 d), (B, N, K): a product with the key and one with the value of each neighbor."""
    return 4 * prod(index) * projections[2] // 3


def _attend_backward(grad: Shape, projections: Shape, index: Shape, *_: Any, out_shape: Any = None) -> int:
    return 2 * _attend(projections, index)


def _spatial_neighbors(sides: Shape, padding: int, k: int, *_: Any, out_shape: Any = None) -> int:
    return prod(sides) * prod(padded_sides(sides, padding))


def _spatial_neighbors_in_pool(pool: Shape, sides: Shape, padding: int, k: int, *_: Any, out_shape: Any = None) -> int:
    return prod(sides) * pool[0]


def _linear(x: Shape, weight: Shape, *_: Any, out_shape: Any = None) -> int:
    """(B, N, in), (out, in)"""
    return 2 * prod(x) * weight[0]


def _linear_backward(grad: Shape, x: Shape, weight: Shape, *_: Any, out_shape: Any = None) -> int:
    return 2 * _linear(x, weight)


FORMULAS: dict[str, Any] = {
    "nearest_positions": _nearest_positions,
    "nearest_keys": _nearest_keys,
    "aggregate": _aggregate,
    "aggregate_backward": _aggregate_backward,
    "attend": _attend,
    "attend_backward": _attend_backward,
    "spatial_neighbors": _spatial_neighbors,
    "spatial_neighbors_in_pool": _spatial_neighbors_in_pool,
    "linear_in_float32": _linear,
    "linear_in_float32_backward": _linear_backward,
}


def register_flops() -> None:
    """Tell torch the FLOPs of the operators, once. Its counter is imported here: that takes a fifth of a second."""
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    for name, formula in FORMULAS.items():
        packet = getattr(torch.ops.convnn, name)
        if packet not in flop_registry:
            register_flop_formula(packet)(formula)
