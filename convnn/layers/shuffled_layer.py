"""The shuffle pattern of a layer: pixel unshuffle before it, pixel shuffle after it, or both.

pattern  before     after      (B, in, H, W) ->
NA       -          -          (B, out, H, W)
BA       unshuffle  shuffle    (B, out, H, W)
B        unshuffle  -          (B, out, H / r, W / r)
A        -          shuffle    (B, out, H * r, W * r)

r is shuffle_scale; with 2-D unshuffling the layer itself computes on r * r times the channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convnn.layers.pixel_shuffle import PixelShuffle1d, PixelUnshuffle1d

PATTERNS = ("NA", "BA", "B", "A")


class ShuffledLayer(nn.Module):
    """Base of layers with a shuffle pattern.

    Subclasses set `dims`, the number of spatial dimensions, and implement `compute` from `inner_in` to `inner_out`
    channels. Raises ValueError for an unknown pattern, a scale below 1, or a scale that does not divide a map's sides.
    """

    dims: int

    def __init__(self, in_channels: int, out_channels: int, shuffle_pattern: str, shuffle_scale: int) -> None:
        super().__init__()
        self.require_choice("shuffle_pattern", shuffle_pattern, PATTERNS)
        has_scale = shuffle_pattern == "NA" or shuffle_scale >= 1
        self.require(has_scale, f"shuffle_scale is {shuffle_scale}: must be at least 1 with {shuffle_pattern}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.shuffle_pattern, self.shuffle_scale = shuffle_pattern, shuffle_scale
        self.inner_in, self.inner_out = in_channels, out_channels
        self.unshuffle: nn.Module = nn.Identity()
        self.shuffle: nn.Module = nn.Identity()
        if shuffle_pattern in ("B", "BA"):
            self.inner_in *= shuffle_scale**self.dims
            self.unshuffle = PixelUnshuffle1d(shuffle_scale) if self.dims == 1 else nn.PixelUnshuffle(shuffle_scale)
        if shuffle_pattern in ("A", "BA"):
            self.inner_out *= shuffle_scale**self.dims
            self.shuffle = PixelShuffle1d(shuffle_scale) if self.dims == 1 else nn.PixelShuffle(shuffle_scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, *sides) -> (B, out, *sides); patterns A and B change the sides."""
        sides = x.shape[2:]
        if len(sides) != self.dims or x.shape[1] != self.in_channels:
            expected = ", ".join(["B", str(self.in_channels), *["side"] * self.dims])
            raise ValueError(f"{type(self).__name__}: input of shape {tuple(x.shape)}, expected ({expected})")
        if "B" in self.shuffle_pattern and any(side % self.shuffle_scale for side in sides):
            raise ValueError(
                f"{type(self).__name__}: shuffle_scale = {self.shuffle_scale} does not divide "
                f"the {format_sides(sides)} map"
            )
        return self.shuffle(self.compute(self.unshuffle(x)))

    def compute(self, x: Tensor) -> Tensor:
        """Compute the layer between unshuffle and shuffle. (B, inner_in, *sides) -> (B, inner_out, *sides)"""
        raise NotImplementedError

    def require(self, condition: bool, message: str) -> None:
        """Raise ValueError with the layer's name if the condition does not hold."""
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def require_choice(self, name: str, value: str, choices: Sequence[str]) -> None:
        """Raise ValueError if the option's value is not one of its choices."""
        self.require(value in choices, f"{name} is {value!r}: must be one of {', '.join(choices)}")


def format_sides(sides: Sequence[int]) -> str:
    """Return the sides of a map as text: 32x32."""
    return "x".join(str(int(side)) for side in sides)
