"""What the layers of a trained run choose on one image: a forward pass of a checkpoint with all neighbors recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnn.config.active import effective_value
from convnn.data.imagenet import center_box
from convnn.data.images import decoding, open_image, oriented_size, read_rgb
from convnn.data.loaders import Normalize
from convnn.errors import Exit, UserError
from convnn.layer_table import unshuffle_scale
from convnn.layers.neighbor_layer import NeighborLayer
from convnn.layers.neighbor_record import record_neighbors
from convnn.models.architectures import slots
from convnn.neighbors.inspection import Inspection, LayerNeighbors
from convnn.runs.resume import with_data_path
from convnn.training.device import amp_dtype, autocast
from convnn.worker.load_run import OTHER_IMAGES, TrainedRun, unaugmented

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class InspectedImage:
    """An image as a model gets it before normalization, and what is known of it."""

    pixels: Tensor  # (3, H, W) uint8
    name: str  # its number in the split, or its path
    split: str | None = None
    label: str | None = None
    notes: tuple[str, ...] = ()


def image_size(trained: TrainedRun) -> tuple[int, int]:
    """Return height and width of the images that a run was trained on."""
    if len(trained.started.image_size or ()) != 3:
        raise UserError(f"{trained.run.name} does not say how large its images were")
    _, height, width = trained.started.image_size or ()
    return height, width


def image_of_split(
    trained: TrainedRun, checkpoint: str, split: str, number: int, data_path: str | None = None
) -> InspectedImage:
    """Return an image of the run's data set without augmentation, by its number from 0 in the order of its files.

    The data set is read at `data_path`, without it where the run has read it. Raises UserError where there is no such
    split or image, or where the data is missing or has other classes.
    """
    config = unaugmented(with_data_path(trained.run, trained.config))
    if data_path is not None:
        config = config.with_values({"data.path": data_path})
    splits = ("test",) if split == "test" else ("train",)  # which the validation split is a part of
    checkpoint_name = trained.find_checkpoint(checkpoint).name
    data = trained.open_data(config.with_values({"data.workers": 0}), CPU, checkpoint_name, splits)
    loader = trained.loader(data, split)
    if not 0 <= number < loader.num_images:
        message = f"--image is {number}: the {split} images are numbered from 0 to {loader.num_images - 1}"
        raise UserError(message, key="image", value=number)
    pixels, label = loader.image(number)
    notes = () if trained.has_images(data, split) else (f"the {split} {OTHER_IMAGES}",)
    return InspectedImage(pixels, str(number), split, data.classes[label], notes)


def image_of_file(trained: TrainedRun, path: Path) -> InspectedImage:
    """Return an image file as the run's data would be: of its size, and for ImageNet the centered square of it.

    Raises UserError (data) where it cannot be read.
    """
    height, width = image_size(trained)
    is_cropped = trained.config.data.dataset == "imagenet"
    try:
        with decoding():
            with open_image(path) as image:
                size = oriented_size(image)
            rgb = read_rgb(path, (width, height), center_box if is_cropped else None)
    except MemoryError:
        raise
    except Exception as error:  # on a damaged file a decoder may raise nearly anything
        message = f"{path} cannot be read as an image: {type(error).__name__}: {error}"
        raise UserError(message, Exit.DATA, key="image", value=str(path)) from error
    notes = []
    if is_cropped:
        notes.append(f"the centered square of the file, {size[0]}x{size[1]} pixels, was resized to {width}x{height}")
    elif size != (width, height):
        notes.append(f"the file was resized from {size[0]}x{size[1]} to {width}x{height} pixels, as the run's data are")
    pixels = torch.from_numpy(np.array(rgb).transpose(2, 0, 1))
    return InspectedImage(pixels, str(path), notes=tuple(notes))


def inspect_run(trained: TrainedRun, checkpoint: str, image: InspectedImage) -> Inspection:
    """Record what every layer of a checkpoint chooses on an image, in one forward pass in evaluation mode.

    `checkpoint` is "best", "last" or the number of an epoch. Raises UserError where there is none of that name.
    """
    saved = trained.find_checkpoint(checkpoint)
    size = image_size(trained)
    if tuple(image.pixels.shape[1:]) != size:
        height, width = image.pixels.shape[1:]
        message = f"{trained.run.name} was trained on {size[1]}x{size[0]} pixels, the image has {width}x{height}"
        raise UserError(message, key="against", fix="compare runs on images of one size")
    if trained.normalization is None:
        raise UserError(f"{trained.run.name} does not say how its images were normalized")
    config = trained.config
    # as the run was evaluated; a CPU does not compute in float16
    precision = None if config.runtime.amp_dtype == "fp16" else amp_dtype(config, CPU)
    model = trained.model(saved.name)
    batch = Normalize(trained.normalization, 0.0, CPU)(image.pixels[None])
    with torch.inference_mode(), record_neighbors(model, scores=True) as records, autocast(CPU, precision):
        probabilities = model(batch).float().softmax(1)[0]
    layers = {}
    model_slots = slots(config.model.name, config.model.width, size)
    modules = dict(model.named_modules())
    for slot in model_slots:
        record_name = next((key for key in records if key == slot.name or key.startswith(f"{slot.name}.")), None)
        if record_name is None:
            continue
        record, layer = records[record_name], modules[record_name]
        assert isinstance(layer, NeighborLayer)
        assert record.scores is not None
        height, width = record.sides
        layers[slot.name] = LayerNeighbors(
            slot=slot.name,
            layer=config.layer.type,
            sides=(height, width),
            padding=record.padding,
            patch=slot.patch * unshuffle_scale(layer.shuffle_pattern, layer.shuffle_scale),
            window=effective_value(config, "layer.kernel_size"),
            score=layer.score_name,
            candidates=layer.sampling.pool_size(record.sides, record.padding),
            sampling="all" if layer.sampling.includes_all(record.sides, record.padding) else config.sampling.type,
            index=record.index[0].numpy(),
            scores=record.scores[0].numpy(),
        )
    classes = trained.started.classes
    best = int(probabilities.argmax())
    return Inspection(
        run=trained.run.name,
        checkpoint=checkpoint,
        epoch=saved.epoch,
        step=saved.step,
        split=image.split,
        image=image.name,
        label=image.label,
        prediction=classes[best] if best < len(classes) else str(best),
        probability=float(probabilities[best]),
        pixels=image.pixels.permute(1, 2, 0).numpy(),
        slots=tuple(slot.name for slot in model_slots),
        layers=layers,
        notes=image.notes,
    )
