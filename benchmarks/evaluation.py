"""Evaluation of 10,000 images: a pass with and without its predictions, and the report and the file made of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.measure import BenchOptions, Contender, Work, measure_interleaved
from benchmarks.table import MIB, Row
from convnn import predictions
from convnn.analysis.classification_report import ClassificationReport
from convnn.config.schema import RunConfig
from convnn.data.cifar import CIFAR10_NORMALIZATION
from convnn.data.loaders import InMemoryLoader
from convnn.training import build
from convnn.training.evaluation import Evaluator, run_through
from convnn.training.prediction_meter import PredictionMeter

IMAGES, QUICK_IMAGES = 10_000, 2_000
BATCH = 256
CLASSES = (10, 100, 1000)
WIDTH = 0.25  # of VGG11: the narrower the network, the larger the share of what is gathered


def work(device: torch.device, images: int, classes: int, gathers: bool) -> Work:
    """A pass over random pixels."""
    config = RunConfig.model_validate({"model": {"name": "vgg11", "width": WIDTH}, "layer": {"type": "Conv2d"}})
    model = build.model(config, classes).to(device)
    evaluator = Evaluator(build.loss_fn(config), device, None, seed=0)
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(images) % classes
    normalization = CIFAR10_NORMALIZATION
    loader = InMemoryLoader(pixels, labels, batch_size=BATCH, seed=0, device=device, normalization=normalization)

    def run() -> None:
        meter = PredictionMeter(images) if gathers else None
        run_through(evaluator.evaluate(model, loader, "test", meter))
        if meter is not None:
            meter.predictions(classes, split="test", step=1, epoch=1)

    return Work(run)


def rows(bench: BenchOptions) -> Iterator[Row]:
    """A row for each number of classes."""
    images = QUICK_IMAGES if bench.quick else IMAGES
    for classes in CLASSES:
        contenders = [Contender(work, (images, classes, gathers)) for gathers in (False, True)]
        alone, gathered = measure_interleaved(contenders, bench)
        report_seconds, file_seconds, size = _after_pass(images, classes)
        yield {
            f"evaluation of {images:,} images": f"{classes} classes",
            "pass s": alone.seconds,
            "with predictions s": gathered.seconds,
            "report ms": 1e3 * report_seconds,
            "write and read ms": 1e3 * file_seconds,
            "file MiB": size / MIB,
        }


def _after_pass(images: int, classes: int) -> tuple[float, float, int]:
    """Return the seconds of a report, those of writing and reading the file, and its bytes."""
    meter = PredictionMeter(images)
    meter.add(torch.randn(images, classes), torch.arange(images) % classes)
    result = meter.predictions(classes, split="test", step=1, epoch=1)
    assert result is not None
    start = time.perf_counter()
    ClassificationReport(result, ()).json(worst=4)
    reported = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        predictions.write(Path(folder), result)
        predictions.read(Path(folder))
        ended = time.perf_counter()
        size = (Path(folder) / predictions.NAME).stat().st_size
    return reported - start, ended - reported, size
