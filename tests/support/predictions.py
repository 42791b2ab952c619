"""Predictions of a model that is drawn at random, for tests."""

from __future__ import annotations

import numpy as np
import torch

from convnn.predictions import Predictions
from convnn.training.prediction_meter import PredictionMeter


def random_predictions(images: int, classes: int, *, seed: int = 0, label_seed: int = 0, **about) -> Predictions:
    """Predictions that are right more often than not; runs of one `label_seed` have the same images."""
    labels = torch.from_numpy(np.random.default_rng(label_seed).integers(0, classes, images))
    logits = torch.randn(images, classes, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(images), labels] += 2.5
    meter = PredictionMeter(images)
    for start in range(0, images, 5000):
        meter.add(logits[start : start + 5000], labels[start : start + 5000])
    predictions = meter.predictions(classes, **({"split": "test", "step": 7, "epoch": 1, "digest": "a1"} | about))
    assert predictions is not None
    return predictions
