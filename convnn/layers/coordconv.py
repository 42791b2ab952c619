"""Ordinary convolution that may see where it is (Conv2d_New)."""

from torch import Tensor, nn

from convnn.layers.neighbor_layer import AGGREGATION_TYPES
from convnn.layers.ops.coordinates import with_coordinates
from convnn.layers.shuffled_layer import Shuffled


class _CoordConv(Shuffled):
    """See `CoordConv2d`; `dims` is the number of sides of a map."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        aggregation_type: str = "Col",
        shuffle_pattern: str = "NA",
        shuffle_scale: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, shuffle_pattern, shuffle_scale)
        self.require_choice("aggregation_type", aggregation_type, AGGREGATION_TYPES)
        self.require(kernel_size >= 1, f"kernel_size is {kernel_size}: must be at least 1")
        self.coords = aggregation_type == "Loc_Col"
        convolution = nn.Conv1d if self.dims == 1 else nn.Conv2d
        wide = self.inner_in + self.dims * self.coords
        self.conv = convolution(wide, self.inner_out, kernel_size, padding="same")

    def compute(self, x: Tensor) -> Tensor:
        return self.conv(with_coordinates(x) if self.coords else x)


class CoordConv1d(_CoordConv):
    """Convolution of a sequence and, with Loc_Col aggregation, of its coordinate. (B, in, L) -> (B, out, L)"""

    dims = 1


class CoordConv2d(_CoordConv):
    """Convolution of a map and, with Loc_Col aggregation, of its coordinates. (B, in, H, W) -> (B, out, H, W)

    Patterns A and B change H and W. Raises ValueError for an option out of range or a scale that does not
    divide the map.
    """

    dims = 2
