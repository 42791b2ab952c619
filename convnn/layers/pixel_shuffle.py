"""Pixel unshuffle and shuffle of sequences, the analogue of torch's for maps: out[c * r + i, t] = x[c, t * r + i].

B  batch     C  channels     L  length     r  factor
"""

from __future__ import annotations

from torch import Tensor, nn


class PixelUnshuffle1d(nn.Module):
    """Turn r interleaved subsequences into channels. (B, C, L) -> (B, C * r, L / r)

    Raises ValueError if r does not divide L.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, x: Tensor) -> Tensor:
        r, length = self.downscale_factor, x.shape[-1]
        if length % r:
            raise ValueError(f"PixelUnshuffle1d: downscale_factor {r} does not divide the length {length}")
        return x.unflatten(-1, (length // r, r)).transpose(-1, -2).flatten(-3, -2)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class PixelShuffle1d(nn.Module):
    """Interleave groups of r channels: the inverse of `PixelUnshuffle1d`. (B, C * r, L) -> (B, C, L * r)

    Raises ValueError if r does not divide the number of channels.
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        r, channels = self.upscale_factor, x.shape[-2]
        if channels % r:
            raise ValueError(f"PixelShuffle1d: upscale_factor {r} does not divide the {channels} channels")
        return x.unflatten(-2, (channels // r, r)).transpose(-1, -2).flatten(-2)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"
