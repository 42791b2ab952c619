"""Trading resolution for channels: the 1-D pixel shuffle, and a layer's shuffle pattern.

B batch, C channels, L length, r scale. out[c*r + i, t] = x[c, t*r + i], the analogue of torch's 2-D operators.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convnn.layers.pixel_shuffle import PixelShuffle1d, PixelUnshuffle1d

PATTERNS = ("NA", "BA", "B", "A")


class Shuffled(nn.Module):
    """A layer that unshuffles before (patterns B and BA) and shuffles after (A and BA) what it computes.

    Subclasses set `dims`, the number of sides of a map, and take `inner_in` and `inner_out` channels in `compute`.
    Raises ValueError for an unknown pattern, a scale below one, or a scale that does not divide a map's sides.
    """

    dims: int

    def __init__(self, in_channels: int, out_channels: int, shuffle_pattern: str, shuffle_scale: int) -> None:
        super().__init__()
        self.require_choice("shuffle_pattern", shuffle_pattern, PATTERNS)
        scales = shuffle_pattern == "NA" or shuffle_scale >= 1
        self.require(scales, f"shuffle_scale is {shuffle_scale}: must be at least 1 with {shuffle_pattern}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.shuffle_pattern, self.shuffle_scale = shuffle_pattern, shuffle_scale
        self.inner_in = in_channels * (shuffle_scale**self.dims if "B" in shuffle_pattern else 1)
        after = shuffle_pattern in ("A", "BA")
        self.inner_out = out_channels * (shuffle_scale**self.dims if after else 1)
        down, up = (PixelUnshuffle1d, PixelShuffle1d) if self.dims == 1 else (nn.PixelUnshuffle, nn.PixelShuffle)
        self.unshuffle = down(shuffle_scale) if "B" in shuffle_pattern else nn.Identity()
        self.shuffle = up(shuffle_scale) if after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, *sides) -> (B, out, *sides), the sides changed by patterns A and B."""
        sides = x.shape[2:]
        if len(sides) != self.dims or x.shape[1] != self.in_channels:
            wanted = f"(B, {self.in_channels}{', side' * self.dims})"
            raise ValueError(f"{type(self).__name__}: input of shape {tuple(x.shape)}, needs {wanted}")
        if "B" in self.shuffle_pattern and any(side % self.shuffle_scale for side in sides):
            raise ValueError(
                f"{type(self).__name__}: shuffle_scale = {self.shuffle_scale} does not divide the {size(sides)} map"
            )
        return self.shuffle(self.compute(self.unshuffle(x)))

    def require(self, holds: bool, message: str) -> None:
        """Raise ValueError with the layer's name unless the condition holds."""
        if not holds:
            raise ValueError(f"{type(self).__name__}: {message}")

    def require_choice(self, name: str, value: str, choices: Sequence[str]) -> None:
        """Raise ValueError unless the option's value is one of its choices."""
        self.require(value in choices, f"{name} is {value!r}: must be one of {', '.join(choices)}")

    def compute(self, x: Tensor) -> Tensor:
        """What the layer computes between the shuffles. (B, inner_in, *sides) -> (B, inner_out, *sides)"""
        raise NotImplementedError


def size(sides: Sequence[int]) -> str:
    """Sides of a map as a person writes them: 32x32."""
    return "x".join(str(int(side)) for side in sides)
