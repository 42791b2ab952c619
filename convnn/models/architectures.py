"""The architectures as plain data: their stages and convolution slots, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

STAGES: dict[str, tuple[tuple[int, ...], ...]] = {  # output channels of the slots of each stage, at width 1
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg13": ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
    "resnet18": ((64,) * 4, (128,) * 4, (256,) * 4, (512,) * 4),
    "resnet34": ((64,) * 6, (128,) * 8, (256,) * 12, (512,) * 6),
}
STEM = 64  # channels of a ResNet's first convolution
HIDDEN = 4096  # units of the two hidden layers of a VGG's head
POOLED = 7  # side of the map that a VGG's head reads, in pixels


@dataclass(frozen=True)
class Slot:
    """A place for a layer: its module's name in the model, its channels, and its map's (H, W) in pixels."""

    name: str
    in_channels: int
    out_channels: int
    side: tuple[int, int]


def scaled(channels: int, width: float) -> int:
    """Channels (or hidden units) at a width, one at least."""
    return max(1, round(channels * width))


def is_vgg(model: str) -> bool:
    """Whether the model is a VGG, which halves its map after every stage, and not a ResNet."""
    return model.startswith("vgg")


def stages(model: str, width: float, in_channels: int = 3) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The (in, out) channels of the slots of each stage; a ResNet's first slot follows its stem."""
    before = in_channels if is_vgg(model) else scaled(STEM, width)
    result = []
    for channels in STAGES[model]:
        outs = [scaled(c, width) for c in channels]
        result.append(tuple(zip([before, *outs], outs, strict=False)))
        before = outs[-1]
    return tuple(result)


def slots(model: str, width: float, image_size: tuple[int, int], in_channels: int = 3) -> tuple[Slot, ...]:
    """The slots of a model in the order they run, for images of (H, W) pixels."""
    vgg, (height, width_px) = is_vgg(model), image_size
    result = []
    for s, stage in enumerate(stages(model, width, in_channels)):
        side = (height >> s, width_px >> s) if vgg else (height, width_px)
        for i, (before, after) in enumerate(stage):
            name = f"conv{i + 1}" if vgg else f"block{i // 2 + 1}.conv{i % 2 + 1}"
            result.append(Slot(f"stage{s + 1}.{name}", before, after, side))
    return tuple(result)
