"""A saved state from a stranger: what does not fit the model is refused before a kernel in native code reads it."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch
from support import training

from convnn.errors import Exit, UserError
from convnn.training.state import StateDict
from convnn.training.trainer import Trainer

OPTIMIZERS = ("adamw", "adam", "sgd")
HOSTILE = (None, True, -1, 0, 10**400, 1e400, -1e400, float("nan"), "x", "9" * 5000, [], [[]], {}, {"lr": {}}, [1, "a"])


def build_trainer(**options) -> Trainer:
    return Trainer.from_config(training.config(**options))


def take_step(trainer: Trainer) -> None:
    trainer.train_step(*next(trainer.state.train_loader.epoch(1)))
    trainer.state.position.step += 1
    trainer.state.position.global_step += 1


def saved_after_a_step(trainer: Trainer) -> StateDict:
    take_step(trainer)
    return copy.deepcopy(trainer.state.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_that_was_saved_comes_back_in_the_layout_of_the_parameters(name):
    trainer = build_trainer(optimizer=name)
    saved = saved_after_a_step(trainer)
    resumed = build_trainer(optimizer=name)
    resumed.state.model.to(memory_format=torch.channels_last)  # as on a GPU
    resumed.state.load_state_dict(saved)
    assert resumed.state.state_dict().optimizer.keys() == saved.optimizer.keys()
    for key, value in resumed.state.state_dict().optimizer.items():
        assert torch.equal(value, saved.optimizer[key])
    for parameter, values in resumed.state.optimizer.state.items():
        for value in values.values():
            assert value.shape == () or value.stride() == parameter.stride()


def bad_tensors(saved: StateDict):
    """Yield (what is wrong, tensors of the optimizer)."""
    tensors = dict(saved.optimizer)
    key = next(name for name, value in tensors.items() if value.dim() == 4)
    value, index = tensors[key], key.partition(".")[0]
    yield "too few numbers", tensors | {key: value[:1]}
    yield "too many numbers", tensors | {key: torch.cat([value, value])}
    yield "no numbers", tensors | {key: value[:0]}
    yield "as many numbers in another shape", tensors | {key: value.flatten()}
    yield "half of the bytes", tensors | {key: value.half()}
    yield "integers", tensors | {key: value.int()}
    yield "complex numbers", tensors | {key: value.to(torch.complex64)}
    yield "a parameter that is not there", tensors | {"100000.exp_avg": value}
    yield "a negative index", tensors | {"-1.exp_avg": value}
    yield "an index of thousands of digits", tensors | {"9" * 5000 + ".exp_avg": value}
    yield "an index written otherwise", tensors | {"0" + key: value}
    yield "another name", tensors | {f"{index}.max_exp_avg_sq": value}
    yield "no name", tensors | {index: value}


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tensors_that_do_not_fit_the_parameters_are_refused(name, fork):
    trainer = build_trainer(optimizer=name)
    saved = saved_after_a_step(trainer)
    for wrong, tensors in bad_tensors(saved):
        with pytest.raises(UserError, match="does not fit") as caught:
            load = trainer.state.load_fork if fork else trainer.state.load_state_dict
            load(replace(saved, optimizer=tensors))
        assert caught.value.code == (Exit.USAGE if fork else Exit.STORAGE), wrong


@pytest.mark.parametrize("value", [torch.zeros(1), torch.tensor(1), torch.tensor(torch.nan), torch.tensor(-1.0)])
def test_a_step_count_that_is_none_is_refused(value):
    trainer = build_trainer()
    saved = saved_after_a_step(trainer)
    with pytest.raises(UserError, match="does not fit"):
        trainer.state.load_state_dict(replace(saved, optimizer={**saved.optimizer, "0.step": value}))


def test_half_of_what_an_optimizer_keeps_is_refused():
    trainer = build_trainer()
    saved = saved_after_a_step(trainer)
    tensors = {key: value for key, value in saved.optimizer.items() if key != "0.exp_avg_sq"}
    with pytest.raises(UserError, match="parameter 0 lacks exp_avg_sq"):
        trainer.state.load_state_dict(replace(saved, optimizer=tensors))


def test_weights_in_another_number_format_are_refused():
    trainer = build_trainer()
    saved = saved_after_a_step(trainer)
    weights = {name: value.to(torch.float16) for name, value in saved.model.items()}
    with pytest.raises(UserError, match="float16"):
        trainer.state.load_state_dict(replace(saved, model=weights))


def test_options_of_the_optimizer_are_those_of_the_configuration():
    trainer = build_trainer()
    saved = saved_after_a_step(trainer)
    plain = copy.deepcopy(saved.plain)
    plain["optimizer"]["groups"][0] |= {"amsgrad": True, "betas": "xy", "fused": 7, "params": [10**9], "lr": 0.5}
    trainer.state.load_state_dict(replace(saved, plain=plain))
    group = trainer.state.optimizer.param_groups[0]
    assert group["lr"] == 0.5
    assert group["betas"] == (0.9, 0.999) and group["amsgrad"] is False
    take_step(trainer)


def leaves(value, path=()):
    """Yield the path of every value of a JSON document, of a list of numbers the first alone."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))


def replaced(document, path, value):
    copied = copy.deepcopy(document)
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return copied


@pytest.mark.parametrize("count", [2, pytest.param(len(HOSTILE), marks=pytest.mark.torture)], ids=["some", "all"])
@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "plateau", "val_share": 0.2, "early_stop": 2, "ema": 0.9},
        {"scheduler": "step", "optimizer": "sgd", "warmup_epochs": 2},
    ],
)
def test_any_value_of_the_state_may_be_hostile(options, count):
    """It is refused as a whole, or training goes on: nothing else is raised, at once or at the end of the epoch."""
    trainer = build_trainer(**options)
    saved = saved_after_a_step(trainer)
    draw = random.Random(0)
    paths = [path for path in leaves(saved.plain) if path and path[0] not in ("config", "machine", "versions")]
    assert len(paths) > 20
    for path in paths:
        for value in draw.sample(HOSTILE, count):
            plain = replaced(saved.plain, path, value)
            for load in (trainer.state.load_state_dict, trainer.state.load_fork):
                try:
                    load(replace(saved, plain=plain))
                except UserError:
                    continue
                if trainer.state.position.step < len(trainer.state.train_loader):
                    take_step(trainer)
                trainer.state.schedule.step(1.0)
