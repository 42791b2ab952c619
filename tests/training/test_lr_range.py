"""The learning rate range test: its steps are those of training, and it suggests a rate only where the curve does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support import training

from convnn.training.lr_range import RampStep, ramp, ramp_steps, smooth, suggest
from convnn.training.step_seed import step_seed
from convnn.training.trainer import Trainer

STEPS = 100
RATES = ramp(1e-6, 1.0, STEPS)


def curve(loss, steps=STEPS, noise=0.02):
    """The points of a ramp whose loss is a function of log10 of the rate, with noise."""
    draws = np.random.default_rng(0).normal(0, noise, STEPS)
    return [RampStep(lr, loss(math.log10(lr)) + draws[index]) for index, lr in enumerate(RATES[:steps])]


def falling(center, rise=-0.5):
    """A loss that falls around a power of ten, and rises again from another on."""
    return lambda x: 2.3 - 1.5 / (1 + math.exp(-4 * (x - center))) + 5 * max(0.0, x - rise)


def test_the_rates_rise_by_the_same_factor():
    assert RATES[0] == pytest.approx(1e-6) and RATES[-1] == pytest.approx(1.0)
    assert np.diff(np.log10(RATES)) == pytest.approx(6 / (STEPS - 1))


@pytest.mark.parametrize("center", [-4.0, -3.0, -2.0])
def test_the_suggestion_is_where_the_loss_falls_most_steeply(center):
    assert math.log10(suggest(curve(falling(center)), STEPS).lr) == pytest.approx(center, abs=0.3)


@pytest.mark.parametrize(
    ("points", "flag"),
    [
        (curve(lambda x: 2.3), "--steps"),  # flat
        (curve(lambda x: 2.3 + 3 * max(0.0, x + 3)), "--steps"),  # it only rises
        (curve(falling(0.0, rise=9.0)), "--max_lr"),  # it falls to the end
        (curve(falling(-6.5)), "--min_lr"),  # it has begun to fall before
        (curve(falling(-3.0), steps=12), "--min_lr"),  # it diverges at once
    ],
)
def test_a_curve_that_suggests_no_rate_says_what_to_change(points, flag):
    suggestion = suggest(points, STEPS)
    assert suggestion.lr is None and flag in suggestion.reason


def test_a_smoothed_loss_is_the_mean_around_its_step():
    losses = np.random.default_rng(1).normal(size=30).tolist()
    expected = [np.mean(losses[max(0, i - 5) : i + 6]) for i in range(30)]
    assert smooth(losses, STEPS) == pytest.approx(expected)


def test_its_steps_are_those_of_training_at_other_rates_over_several_epochs():
    config = training.config(accumulate=2, clip_grad_norm=0.5, augment=True, ema=None)
    rates = ramp(1e-4, 1e-2, 6)
    points = list(ramp_steps(Trainer.from_config(config), rates))
    trainer, expected = Trainer.from_config(config), []
    trainer.state.model.train()
    for epoch in (1, 2):
        batches = trainer.state.train_loader.epoch(epoch)
        for step in range(len(trainer.state.train_loader)):
            torch.manual_seed(step_seed(config.training.seed, epoch, step))
            if len(expected) < len(rates):
                trainer.state.optimizer.param_groups[0]["lr"] = rates[len(expected)]
                expected.append(trainer.train_step(*next(batches))[0].item())
    assert [point.lr for point in points] == rates and [point.loss for point in points] == expected


def test_divergence_ends_the_ramp():
    trainer = Trainer.from_config(training.config(optimizer="sgd", model="vgg11", resize=32, limit=32, batch_size=4))
    points = list(ramp_steps(trainer, ramp(1e-3, 1e6, 40)))
    assert len(points) < 40
    last = points[-1].loss
    assert not math.isfinite(last) or last > 4 * min(point.loss for point in points)
