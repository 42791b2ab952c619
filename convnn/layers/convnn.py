"""Convolution over nearest neighbours.

M. Kang and J. Farias, "Attention Via Convolutional Nearest Neighbors", arXiv 2511.14137.
B batch, C channels, H W height and width, N = H*W positions, p padding, K neighbours, d channels convolved.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from convnn.layers.neighbor_layer import NeighbourLayer, working_dtype
from convnn.layers.ops.aggregate import aggregate
from convnn.layers.ops.coordinates import with_coordinates
from convnn.layers.ops.nearest import nearest_positions
from convnn.layers.ops.spatial import places, places_in
from convnn.layers.ops.tiles import as_rows
from convnn.layers.sampling import Sampling

SIMILARITY_TYPES = ("Loc", "Col", "Loc_Col")


class _ConvNN(NeighbourLayer):
    """See `ConvNN2d`; `dims` is the number of sides of a map."""

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
        initial = dict(nn.Conv1d(self.wide, self.inner_out, K).named_parameters())
        self.weight, self.bias = initial["weight"], initial["bias"]

    def compute(self, x: Tensor) -> Tensor:
        sides = x.shape[2:]
        self.check(sides)
        side = self._kernel_side(sides)
        if side:
            return self._convolve(x, side)
        index = self._search(x.detach(), sides)
        dtype = working_dtype(x)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return aggregate(x.to(dtype), index, weight, bias, self.padding, self.coords)

    def _search(self, x: Tensor, sides: Sequence[int]) -> Tensor:
        """Padded positions of every query's neighbours, for each image or one for all. -> (B or 1, N, K)"""
        if self.similarity_type == "Loc":
            if self.sampling.sampling_type == "random" and not self.sampling.takes_all(sides, self.padding):
                return places_in(self.pool(sides, x.device), sides, self.padding, self.K)
            sampling = self.sampling
            options = (sampling.sampling_type, sampling.num_samples, sampling.sample_padding)
            return places(sides, self.padding, self.K, *options, x.device)
        by_place = self.similarity_type == "Loc_Col"
        slots = self.K if by_place or self.coords else self.slots(sides)
        lambda_param = self.lambda_param if by_place else None
        pool = self.pool(sides, x.device)
        return nearest_positions(as_rows(x), pool, sides, self.padding, slots, self.magnitude_type, lambda_param)

    def _kernel_side(self, sides: Sequence[int]) -> int:
        """Side of the kernel that this layer is on such a map, each slot being a place; 0 where it is none."""
        side = round(self.K ** (1 / self.dims))
        is_kernel = side**self.dims == self.K and side % 2 == 1 and self.padding >= side // 2
        return (
            side if self.similarity_type == "Loc" and is_kernel and self.sampling.takes_all(sides, self.padding) else 0
        )

    def _convolve(self, x: Tensor, side: int) -> Tensor:
        """The layer as the ordinary convolution that it is."""
        sides, convolve = x.shape[2:], (F.conv1d, F.conv2d)[self.dims - 1]
        weight = self.weight.unflatten(2, (side,) * self.dims)
        if not self.coords:
            return convolve(x, weight, self.bias, padding=side // 2)
        room = with_coordinates(F.pad(x, (self.padding,) * (2 * self.dims)))
        for dim, length in enumerate(sides, start=2):
            room = room.narrow(dim, self.padding - side // 2, length + side - 1)
        return convolve(room, weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, similarity_type={self.similarity_type!r}, lambda_param={self.lambda_param}"


class ConvNN1d(_ConvNN):
    """Convolution over the K positions most like each position of a sequence. (B, in, L) -> (B, out, L)

    Options, defaults and errors are those of `ConvNN2d`.
    """

    dims = 1


class ConvNN2d(_ConvNN):
    """Convolution over the K positions most like each position of a map. (B, in, H, W) -> (B, out, H, W)

    K counts the position itself; `padding` and `sample_padding` are in pixels. Patterns A and B change H and W.
    Raises ValueError for an option out of range, and when called on a map whose pool holds fewer than K positions or
    whose sides `shuffle_scale` does not divide. Source: arXiv 2511.14137.
    """

    dims = 2
