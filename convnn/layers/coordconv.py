"""Convolution with coordinate channels (Conv2d_New).

R. Liu et al., "An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution", arXiv 1807.03247.
"""

from torch import Tensor, nn

from convnn.layers.neighbor_layer import AGGREGATION_TYPES
from convnn.layers.ops.coordinates import append_coordinates
from convnn.layers.shuffled_layer import ShuffledLayer


class _CoordConv(ShuffledLayer):
    """See `CoordConv2d`."""

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
        conv_class = nn.Conv1d if self.dims == 1 else nn.Conv2d
        channels = self.inner_in + self.dims * self.coords
        self.conv = conv_class(channels, self.inner_out, kernel_size, padding="same")

    def compute(self, x: Tensor) -> Tensor:
        return self.conv(append_coordinates(x) if self.coords else x)


class CoordConv1d(_CoordConv):
    """Convolution of a sequence and, with Loc_Col aggregation, of its coordinate. (B, in, L) -> (B, out, L)

    Options and errors are those of `CoordConv2d`.
    """

    dims = 1


class CoordConv2d(_CoordConv):
    """Convolution of a map and, with Loc_Col aggregation, of its coordinates. (B, in, H, W) -> (B, out, H, W)

    Args:
        kernel_size: side of the kernel; the map is padded to keep its size.
        aggregation_type: "Col" convolves the features, "Loc_Col" features and coordinates from -1 to 1.
        shuffle_pattern, shuffle_scale: see `shuffled_layer`; patterns A and B change H and W.

    Raises:
        ValueError: an option is out of range, or `shuffle_scale` does not divide the map.
    """

    dims = 2
