"""The models as a table: their classes, and the slots that any layer can fill. Loads no torch.

H W are the height and the width of a feature map in pixels. To add a model, write its class and a row of
`ARCHITECTURES`; one of another family also needs a `Family`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from convnn.layer_table import Cost, Side, convolution

STEM = 64  # channels of a ResNet's first convolution
HIDDEN = 4096  # units of the two hidden layers of a VGG's head
POOLED = 7  # side of the map that a VGG's head reads, in pixels


@dataclass(frozen=True)
class Slot:
    """A convolution of a model that any layer can replace: its module's name, its channels, and its map's (H, W)."""

    name: str
    in_channels: int
    out_channels: int
    side: Side
    patch: int = 1  # pixels of the image that a position of the map covers along each side


@dataclass(frozen=True)
class Family:
    """What architectures of one kind have in common."""

    class_path: str  # "package.module:Class", called as CLASS(name, conv, num_classes=, in_channels=, width=)
    stem: int | None  # channels of a first convolution that is no slot, at width 1
    pools: bool  # halves the map after every stage
    slots_per_block: int  # 1: a stage has slots conv1, conv2 ...; 2: it has blocks of two
    slot_bias: bool  # whether a Conv2d in a slot has a bias
    rest: Callable[[tuple[Slot, ...], float, int, int], list[Cost]]
    """(slots, width, num_classes, in_channels) -> the cost of each module outside the slots"""


@dataclass(frozen=True)
class Architecture:
    """A row of the table."""

    family: Family
    stages: tuple[tuple[int, ...], ...]  # output channels of the slots of each stage, at width 1

    @property
    def min_side(self) -> int:
        """The least side of an image in pixels, so that every stage has a position."""
        return 2 ** len(self.stages) if self.family.pools else 1


def _norm(channels: int) -> Cost:
    return Cost(2 * channels, 0)


def _vgg_rest(slots: tuple[Slot, ...], width: float, num_classes: int, in_channels: int) -> list[Cost]:
    hidden = scaled(HIDDEN, width)
    sizes = [slots[-1].out_channels * POOLED**2, hidden, hidden, num_classes]
    side = (slots[-1].side[0] // 2, slots[-1].side[1] // 2)
    is_pooled = side not in ((1, 1), (POOLED, POOLED))
    pool = Cost(0, 2 * slots[-1].out_channels * POOLED**2 * side[0] * side[1] * is_pooled)
    first, *others = (convolution(before, after, 1, 1) for before, after in pairwise(sizes))
    if side == (1, 1):  # the pool repeats it
        first = replace(first, repeated=sizes[0] * hidden - slots[-1].out_channels * hidden)
    return [pool, *(_norm(slot.out_channels) for slot in slots), first, *others]


def _resnet_rest(slots: tuple[Slot, ...], width: float, num_classes: int, in_channels: int) -> list[Cost]:
    stem, (height, width_px) = slots[0].in_channels, slots[0].side
    positions = height * width_px
    shortcuts = [slot for slot in slots[::2] if slot.in_channels != slot.out_channels]
    return [
        convolution(in_channels, stem, 9, positions, bias=False),
        _norm(stem),
        *(_norm(slot.out_channels) for slot in slots),
        *(convolution(slot.in_channels, slot.out_channels, 1, positions, bias=False) for slot in shortcuts),
        convolution(slots[-1].out_channels, num_classes, 1, 1),
    ]


VGG = Family("convnn.models.vgg:VGG", stem=None, pools=True, slots_per_block=1, slot_bias=True, rest=_vgg_rest)
RESNET = Family(
    "convnn.models.resnet:ResNet",
    stem=STEM,
    pools=False,
    slots_per_block=2,
    slot_bias=False,  # a normalization follows every slot, which makes a bias redundant
    rest=_resnet_rest,
)

ARCHITECTURES = {
    "vgg11": Architecture(VGG, ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)),
    "vgg13": Architecture(VGG, ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2)),
    "vgg16": Architecture(VGG, ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)),
    "vgg19": Architecture(VGG, ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)),
    "resnet18": Architecture(RESNET, ((64,) * 4, (128,) * 4, (256,) * 4, (512,) * 4)),
    "resnet34": Architecture(RESNET, ((64,) * 6, (128,) * 8, (256,) * 12, (512,) * 6)),
}


def architecture(name: str) -> Architecture:
    """Return a row of the table. Raises LookupError where there is none of that name."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise LookupError(f"there is no model {name!r} in the table; it has {', '.join(ARCHITECTURES)}") from None


def scaled(channels: int, width: float) -> int:
    """Return the channels (or hidden units) at a width, one at least."""
    return max(1, round(channels * width))


def stages(model: str, width: float, in_channels: int = 3) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return the (in, out) channels of the slots of each stage; where there is a stem, the first slot follows it."""
    row = architecture(model)
    before = in_channels if row.family.stem is None else scaled(row.family.stem, width)
    result = []
    for channels in row.stages:
        outs = [scaled(c, width) for c in channels]
        result.append(tuple(zip([before, *outs], outs, strict=False)))
        before = outs[-1]
    return tuple(result)


def slots(model: str, width: float, image_size: Side, in_channels: int = 3) -> tuple[Slot, ...]:
    """Return the slots of a model in the order they run, for images of (H, W) pixels."""
    family = architecture(model).family
    result = []
    for stage, channels in enumerate(stages(model, width, in_channels)):
        halvings = stage if family.pools else 0
        side = (image_size[0] >> halvings, image_size[1] >> halvings)
        for position, (before, after) in enumerate(channels):
            block, conv = divmod(position, family.slots_per_block)
            name = f"block{block + 1}.conv{conv + 1}" if family.slots_per_block > 1 else f"conv{block + 1}"
            result.append(Slot(f"stage{stage + 1}.{name}", before, after, side, 1 << halvings))
    return tuple(result)
