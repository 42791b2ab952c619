"""Weights of a head with the same gradient share it and AdamW's state: each takes the steps that it takes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import training

from convnn.errors import UserError
from convnn.training import build
from convnn.training import device as training_device
from convnn.training.shared_update import heads, is_shared
from convnn.training.state import build_train_state
from convnn.training.trainer import Trainer

OPTIONS = training.SMALL | {"model": "vgg11", "width": 1 / 32, "resize": 32, "limit": 24, "batch_size": 8, "lr": 0.01}
OPTIONS |= {"weight_decay": 0.1, "clip_grad_norm": 0.5, "ema": 0.8}


def build_trainer(*, shared: bool = True, **options) -> Trainer:
    """A trainer; with `shared=False` the optimizer steps each weight of the head."""
    config, device = training.config(OPTIONS | options), torch.device("cpu")
    state = build_train_state(config, build.data(config, device), device, 0)
    (head,) = heads(state.model)
    assert head.shared_update is not None
    if not shared:
        head.shared_update = None
        state.optimizer = build.optimizer(config, state.model)
    return Trainer(state, [], training_device.PeakMemory(device))


def take_steps(trainer: Trainer) -> list[list[float]]:
    """The loss and the gradient norm of the steps of an epoch."""
    trainer.state.model.train()
    dtype = next(trainer.state.model.parameters()).dtype
    results = []
    for index, (x, y) in enumerate(trainer.state.train_loader.epoch(1)):
        torch.manual_seed(index)
        results.append([value.item() for value in trainer.train_step(x.to(dtype), y)])
    return results


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_steps_are_those_of_every_weight_alone(float64, accumulate):
    trainers = [build_trainer(shared=shared, accumulate=accumulate) for shared in (True, False)]
    results = [take_steps(trainer) for trainer in trainers]
    assert results[0] == [pytest.approx(step, rel=1e-12) for step in results[1]]
    assert min(norm for _, norm in results[0]) > 2 * OPTIONS["clip_grad_norm"]
    first, second = (trainer.state for trainer in trainers)
    for model, expected in ((first.model, second.model), (first.ema.module, second.ema.module)):
        for name, value in expected.named_parameters():
            if not (".conv" in name and name.endswith("bias")):  # whose gradients are zero but for rounding
                assert (model.get_parameter(name) - value).norm() <= 1e-12 * value.norm(), name


def test_a_step_that_the_gradient_scaler_skips_changes_nothing_and_others_are_as_without_it():
    scaled, plain = build_trainer(), build_trainer()
    (head,), (plain_head,) = heads(scaled.state.model), heads(plain.state.model)
    x, y = next(scaled.state.train_loader.epoch(1))
    before = head.weight.clone()
    scaled.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    scaled.train_step(torch.full_like(x, torch.nan), y)
    assert torch.equal(head.weight, before) and not head.shared_update.any()
    scaled.state.model.load_state_dict(plain.state.model.state_dict())  # with the running statistics
    for trainer in (scaled, plain):
        torch.manual_seed(0)
        trainer.train_step(x, y)
    assert not torch.equal(head.weight, before)
    torch.testing.assert_close(head.weight, plain_head.weight)


def test_a_saved_state_is_read_in_either_form():
    shared, alone = build_trainer(), build_trainer(shared=False)
    take_steps(shared)
    saved = shared.state.state_dict()
    (head,), (alone_head,) = heads(shared.state.model), heads(alone.state.model)
    index = next(i for i, parameter in enumerate(shared.state.model.parameters()) if parameter is head.weight)
    key = f"{index}.exp_avg_sq"
    assert saved.optimizer[key].shape == (128, 16) and saved.model["head.0.weight"].shape == (128, 16 * 49)
    alone.state.load_state_dict(saved)
    state = alone.state.optimizer.state[alone_head.weight]["exp_avg_sq"].unflatten(1, (16, 49))
    assert torch.equal(state, saved.optimizer[key][..., None].expand_as(state))
    again = build_trainer()
    again.state.load_state_dict(alone.state.state_dict())
    loaded = again.state.state_dict().optimizer
    assert all(torch.equal(value, loaded[name]) for name, value in saved.optimizer.items())
    with pytest.raises(UserError, match="its parameter is"):
        again.state.load_state_dict(replace(saved, optimizer=saved.optimizer | {key: saved.optimizer[key][:, :8]}))


def test_a_run_stopped_anywhere_ends_as_the_undisturbed_one(tmp_path):
    config = training.config(OPTIONS)
    whole, _ = training.train(tmp_path, config)
    run, ended = training.train(tmp_path, config, commands=training.StopAt(3))
    assert ended.finished.outcome == "stopped"
    assert training.resume(run).finished.outcome == "done"
    assert run.history().digest() == whole.history().digest() and training.same_weights(run, whole)


@pytest.mark.parametrize(
    ("options", "size", "shared"),
    [
        ({}, (32, 32), True),
        ({"model": "vgg19"}, (63, 40), True),
        ({}, (64, 32), False),
        ({"model": "resnet18"}, (32, 32), False),
        ({"optimizer": "adam"}, (32, 32), False),  # whose decay differs between the weights
        ({"processes": 2}, (32, 32), False),
    ],
)
def test_updates_are_shared_where_the_last_map_is_a_pixel_and_adamw_steps_one_process(options, size, shared):
    assert is_shared(training.config(OPTIONS | options), size) == shared
