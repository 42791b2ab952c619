"""Convolutional nearest neighbors (ConvNN): convolution over the K positions most similar to each position.

M. Kang and J. Farias, "Attention Via Convolutional Nearest Neighbors", arXiv 2511.14137.

    B  batch     H, W  height and width            K  neighbors, one per slot of the weight
    C  channels  N     positions, H * W            d  channels convolved: C, or C + n with coordinates
    p  padding   N'    positions of the padded map, (H + 2p) * (W + 2p)
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnn.layers.neighbor_layer import NeighborLayer
from convnn.layers.ops.aggregate import aggregate
from convnn.layers.ops.coordinates import append_coordinates, interior_positions, neighbor_offsets
from convnn.layers.ops.half_precision import autocast_dtype
from convnn.layers.ops.nearest import compared_rows, nearest_positions
from convnn.layers.ops.similarity import score_dtype
from convnn.layers.ops.spatial import spatial_neighbors, spatial_neighbors_in_pool
from convnn.layers.ops.tiles import as_rows, interior_rows, pad_rows
from convnn.layers.sampling import Sampling

SIMILARITY_TYPES = ("Loc", "Col", "Loc_Col")


# fmt: off
def convnn_definition(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """ConvNN at its defaults (cosine of features, all candidates), written plainly; tests compare the layer with it.

    (B, C, *sides), (out, C, K), (out,) -> (B, out, *sides)
    """
    sides = x.shape[2:]
    rows = F.pad(x, (padding, padding) * len(sides)).flatten(2).mT          # (B, N', C)
    own = interior_positions(sides, padding, x.device)                      # (N,)
    unit = F.normalize(rows, dim=2)
    scores = unit[:, own] @ unit.mT                                         # (B, N, N')
    scores[:, torch.arange(len(own)), own] = torch.inf                      # itself first, whatever rounding says
    index = scores.topk(weight.shape[2], dim=2).indices                     # (B, N, K)
    neighbors = rows[torch.arange(len(rows))[:, None, None], index]         # (B, N, K, C)
    out = torch.einsum("bnkc,ock->bon", neighbors, weight) + bias[:, None]  # (B, out, N)
    return out.unflatten(2, sides)
# fmt: on


class _ConvNN(NeighborLayer):
    """See `ConvNN2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        K: int = 9,
        padding: int = 1,
        magnitude_type: str = "cosine",
        similarity_type: str = "Col",
        aggregation_type: str = "Col",
        lambda_param: float = 0.5,
        shuffle_pattern: str = "NA",
        shuffle_scale: int = 0,
        sampling_type: str = "all",
        num_samples: int = -1,
        sample_padding: int = 0,
    ) -> None:
        sampling = Sampling(sampling_type, num_samples, sample_padding)
        super().__init__(
            in_channels,
            out_channels,
            K,
            padding,
            magnitude_type,
            aggregation_type,
            shuffle_pattern,
            shuffle_scale,
            sampling,
        )
        self.require_choice("similarity_type", similarity_type, SIMILARITY_TYPES)
        self.require(0 <= lambda_param <= 1, f"lambda_param is {lambda_param}: must be from 0 to 1")
        self.similarity_type, self.lambda_param = similarity_type, lambda_param
        initial = dict(nn.Conv1d(self.gathered_channels, self.inner_out, K).named_parameters())
        self.weight, self.bias = initial["weight"], initial["bias"]  # (out, d, K), (out,)

    def compute(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        self.check_candidates(sides)
        kernel_size = self._kernel_size(sides)
        if kernel_size is not None:
            if self.on_neighbors is not None:
                self.report_neighbors(sides, self._spatial_index(sides, x.device), partial(self._distances, sides))
            return self._convolve(x, kernel_size)
        index = self._neighbor_index(x.detach(), sides)  # (B or 1, N, K)
        self.report_neighbors(sides, index, partial(self._scores, x.detach()))
        dtype = autocast_dtype(x)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return aggregate(x.to(dtype), index, weight, bias, self.padding, self.coords)

    def _neighbor_index(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """Padded positions of every query's neighbors, for each image or one for all. -> (B or 1, N, K)"""
        if self.similarity_type == "Loc":
            return self._spatial_index(sides, x.device)
        pool = self.pool(sides, x.device)
        if self.similarity_type == "Loc_Col":
            slots, lambda_param = self.K, self.lambda_param
        else:
            slots, lambda_param = self.K if self.coords else self.num_slots(sides), None
        return nearest_positions(as_rows(x), pool, sides, self.padding, slots, self.magnitude_type, lambda_param)

    def _scores(self, x: Tensor, index: Tensor) -> Tensor:
        """Cosine, squared distance or, with Loc, distance of queries and their neighbors. (B or 1, N, K) -> the same"""
        sides, padding = x.shape[2:], self.padding
        if self.similarity_type == "Loc":
            return self._distances(sides, index)
        queries = keys = as_rows(x)  # (B, N, C)
        if self.similarity_type == "Loc_Col":
            padded = pad_rows(keys, sides, padding, score_dtype(x.dtype))
            keys = compared_rows(padded, sides, padding, self.lambda_param)
            queries = interior_rows(keys, sides, padding, queries.shape[1])
        return self.neighbor_scores(queries, keys, sides, index)

    def _distances(self, sides: Sequence[int], index: Tensor) -> Tensor:
        """Chebyshev distance of queries and their neighbors, in positions. (1, N, K) -> (1, N, K)"""
        return neighbor_offsets(index, sides, self.padding).abs().amax(0).float()

    @property
    def score_name(self) -> str:
        return "distance in positions" if self.similarity_type == "Loc" else super().score_name

    def _spatial_index(self, sides: Sequence[int], device: torch.device) -> Tensor:
        sampling = self.sampling
        if sampling.sampling_type == "random" and not sampling.includes_all(sides, self.padding):
            return spatial_neighbors_in_pool(self.pool(sides, device), sides, self.padding, self.K)
        options = (sampling.sampling_type, sampling.num_samples, sampling.sample_padding)
        return spatial_neighbors(sides, self.padding, self.K, *options, device)

    def _kernel_size(self, sides: Sequence[int]) -> int | None:
        """Return the kernel size of the ordinary convolution that this layer is on such a map; None if it is none."""
        if self.similarity_type != "Loc" or not self.sampling.includes_all(sides, self.padding):
            return None
        size = round(self.K ** (1 / self.dims))
        is_kernel = size**self.dims == self.K and size % 2 == 1 and self.padding >= size // 2
        return size if is_kernel else None

    def _convolve(self, x: Tensor, kernel_size: int) -> Tensor:
        """Compute the layer as an ordinary convolution."""
        sides, conv = x.shape[2:], (F.conv1d, F.conv2d)[self.dims - 1]
        weight = self.weight.unflatten(2, (kernel_size,) * self.dims)
        if not self.coords:
            return conv(x, weight, self.bias, padding=kernel_size // 2)
        padded = append_coordinates(F.pad(x, (self.padding,) * (2 * self.dims)))
        for dim, side in enumerate(sides, start=2):
            padded = padded.narrow(dim, self.padding - kernel_size // 2, side + kernel_size - 1)
        return conv(padded, weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, similarity_type={self.similarity_type!r}, lambda_param={self.lambda_param}"


class ConvNN1d(_ConvNN):
    """Convolution over the K most similar positions of a sequence. (B, in, L) -> (B, out, L)

    Options, defaults and errors are those of `ConvNN2d`.
    """

    dims = 1


class ConvNN2d(_ConvNN):
    """Convolution over the K most similar positions of a map. (B, in, H, W) -> (B, out, H, W)

    Args:
        K: neighbors of a position, itself included.
        padding: pixels of zeros around the map; they are candidates too.
        magnitude_type: "cosine" or "euclidean" similarity.
        similarity_type: "Col" compares features, "Loc" locations, "Loc_Col" both.
        aggregation_type: "Col" convolves features, "Loc_Col" features and coordinates.
        lambda_param: weight of the features with "Loc_Col" similarity; the coordinates have the rest of 1.
        shuffle_pattern, shuffle_scale: see `shuffled_layer`; patterns A and B change H and W.
        sampling_type: candidates: "all" positions, "random" ones, or a "spatial" grid.
        num_samples: random candidates, or the side of the grid.
        sample_padding: margin around the grid in pixels.

    Raises:
        ValueError: an option is out of range; or, when called, a map has fewer than K candidates or sides that
            `shuffle_scale` does not divide.

    Source: arXiv 2511.14137.
    """

    dims = 2
