"""Evaluate a checkpoint of a trained run on a split of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from convnn.config.schema import RunConfig
from convnn.data.loaders import Loader, epoch_order
from convnn.errors import Exit, UserError
from convnn.predictions import Predictions
from convnn.training import build
from convnn.training import device as training_device
from convnn.training.evaluation import Evaluator, run_through
from convnn.training.prediction_meter import PredictionMeter
from convnn.worker.load_run import GIVE_DATA, OTHER_IMAGES, TrainedRun, unaugmented


class EvaluationResult(NamedTuple):
    """What an evaluation gave."""

    metrics: dict[str, float]
    step: int  # of the checkpoint
    loader: Loader
    classes: tuple[str, ...]
    predictions: Predictions | None  # None where none were gathered, or where an output is not finite


def evaluate_run(
    trained: TrainedRun,
    config: RunConfig,
    *,
    checkpoint: str,
    split: str,
    ema: bool,
    bn_recalibrate: int,
    gathers: bool,
    own_images: bool,
    warn: Callable[[str], None],
) -> EvaluationResult:
    """Evaluate a checkpoint on a split, whose images are not augmented; `config` says where and on which data.

    Raises UserError where the data is missing, has no such split, or has other classes than the run was trained on.

    Args:
        ema: evaluate the moving average of the weights.
        bn_recalibrate: training batches that BatchNorm's running statistics are taken anew from.
        gathers: gather predictions beside the metrics.
        own_images: refuse other images or labels than those of the run, of which it is otherwise warned.
    """
    device = training_device.select_device(config)
    training_device.configure_torch(config, device)
    saved, is_train = trained.find_checkpoint(checkpoint), split == "train"
    model = trained.model(saved.name, device, ema=ema)
    training_device.lay_out(model, config, device)
    splits = {"test" if split == "test" else "train"}  # the validation images are a part of the training images
    if bn_recalibrate and not is_train:
        splits.add("train")
    data = trained.open_data(unaugmented(config) if is_train else config, device, saved.name, tuple(splits))
    loader = trained.loader(data, split)
    if not trained.has_images(data, split):
        message = f"the {split} {OTHER_IMAGES}"
        if own_images:
            raise UserError(message, Exit.DATA, key="save", fix=f"leave --save out, or {GIVE_DATA}")
        warn(message)
    amp, seed = training_device.amp_dtype(config, device), config.training.seed
    evaluator = Evaluator(build.loss_fn(config), device, amp, seed)
    if bn_recalibrate:
        augmented = trained.open_data(config, device, saved.name, ("train",)).train if is_train else data.train
        assert augmented is not None
        run_through(evaluator.recalibrate(model, augmented, bn_recalibrate))
    meter = PredictionMeter(loader.num_images) if gathers else None
    name = f"ema_{split}" if ema else split
    metrics = run_through(evaluator.evaluate(model, loader, name, meter))
    for warning in [*data.warnings, *loader.warnings]:
        warn(warning)
    predictions = None
    if meter is not None:
        predictions = meter.predictions(
            len(data.classes),
            split=split,
            step=saved.step,
            epoch=saved.epoch,
            weights="ema" if ema else "model",
            bn_recalibrate=bn_recalibrate or trained.config.training.bn_recalibrate,
            digest=data.digests.get(split),
            order=epoch_order(loader.num_images, seed, 0) if is_train else None,
        )
    return EvaluationResult(metrics, saved.step, loader, data.classes, predictions)
